//! What programs print, all of it.

use russh::{ChannelMsg, client};
use tokio::time::timeout;

use super::{LIMIT, Scene, collect, first, run, until_gone};

#[tokio::test]
async fn eight_mebibytes_go_both_ways_at_once_unchanged() {
    let handle = Scene::new().log_in().await;
    let sent: Vec<u8> = (0..2u32 << 20)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, "cat").await.unwrap();
    let (mut read, write) = channel.split();
    let bytes = sent.clone();
    let send = async move {
        write.data_bytes(bytes).await.unwrap();
        write.eof().await.unwrap();
    };
    let receive = async move {
        let mut got: Vec<u8> = Vec::new();
        while let Some(message) = read.wait().await {
            if let ChannelMsg::Data { data } = message {
                got.extend(&data);
            }
        }
        got
    };
    let (_, got) = timeout(LIMIT, async { tokio::join!(send, receive) })
        .await
        .expect("no standstill");
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[tokio::test]
async fn what_a_program_leaves_in_its_terminal_arrives_whole_after_its_end() {
    // A client that takes two messages and 16 KiB, and then nothing until it is read.
    let config = client::Config {
        window_size: 16 << 10,
        channel_buffer_size: 1,
        ..client::Config::default()
    };
    let handle = Scene::new().log_in_with(config).await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    // More than the client takes, and so little more that the program need not wait for it.
    let command = "stty -echo; echo $$; read x; exec seq 1000 4749";
    channel.exec(true, command).await.unwrap();
    let pid = first(&mut channel).await;
    channel.data_bytes("go\n").await.unwrap();
    until_gone(pid.trim()).await;
    // Whoever waits for a program's end has heard of this one's when another has ended.
    let other = Scene::new().log_in().await;
    assert_eq!(run(&other, "exit 3").await.status, Some(3));

    let ran = collect(&mut channel).await;
    let expected: String = (1000..4750).map(|n| format!("{n}\r\n")).collect();
    let got = String::from_utf8(ran.stdout).unwrap();
    let odd = got.lines().zip(expected.lines()).find(|(g, e)| g != e);
    assert_eq!((odd, got.len()), (None, expected.len()));
    assert_eq!(ran.status, Some(0));
}
