use protocol::message::dial::DialRefusal;

use super::*;

fn reply(reply: &DialReply<'_>) -> Vec<u8> {
    let mut buffer = [0; HEADER + MAX_FRAME];
    encode(reply, &mut buffer).unwrap().to_vec()
}

/// Asks a proxy that answers with `answer`; gives the result and what comes behind the answer.
async fn asked(answer: Vec<u8>) -> (Result<Answer>, Vec<u8>) {
    let (mut here, mut there) = tokio::io::duplex(1 << 16);
    there.write_all(&answer).await.unwrap();
    let result = ask(&mut here, b"request").await;
    let mut request = [0; 7];
    there.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"request");
    drop(there);
    let mut rest = Vec::new();
    here.read_to_end(&mut rest).await.unwrap();
    (result, rest)
}

#[test]
fn the_request_names_node_and_login() {
    let to: Destination = "root@gateway-1".parse().unwrap();
    let frame = request(&to, None).unwrap();
    let asked: ClientRequest<'_> = decode(&frame[HEADER..]).unwrap();
    let ClientRequest::Ssh { target, login } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(
        (target.as_str(), login.unwrap().as_str()),
        ("gateway-1", "root")
    );
}

#[test]
fn names_beyond_the_protocols_bounds_are_refused_here() {
    let to: Destination = format!("root@{}", "x".repeat(129)).parse().unwrap();
    assert_eq!(Exit::of(&request(&to, None).unwrap_err()), Exit::Usage);
}

#[tokio::test]
async fn after_a_yes_the_stream_is_the_nodes() {
    let mut answer = reply(&DialReply::Accepted);
    answer.extend_from_slice(b"SSH-2.0-tether\r\n");
    let (result, rest) = asked(answer).await;
    result.unwrap();
    assert_eq!(rest, b"SSH-2.0-tether\r\n");
}

#[tokio::test]
async fn a_no_is_passed_on_word_by_word_with_its_exit_code() {
    let refused = DialReply::Refused {
        reason: DialRefusal::Offline,
        text: Text::cut("gateway-1 is offline, last seen 3 h ago."),
    };
    let error = asked(reply(&refused)).await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "gateway-1 is offline, last seen 3 h ago."
    );
    assert_eq!(Exit::of(&error), Exit::Offline);
}

#[tokio::test]
async fn an_answer_of_a_newer_version_is_skipped() {
    let mut answer = vec![0, 3, 99, 1, 2];
    answer.extend(reply(&DialReply::Accepted));
    asked(answer).await.0.unwrap();
}

#[tokio::test]
async fn a_proxy_that_hangs_up_on_a_newer_request_is_asked_plainly() {
    let to: Destination = "root@gateway-1".parse().unwrap();
    for (opening, fallen_back) in [(Some(&b"opening"[..]), true), (None, false)] {
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let proxy = async move {
            let (mut read, write) = tokio::io::split(there);
            let mut header = [0; HEADER];
            read.read_exact(&mut header).await.unwrap();
            drop((read, write));
        };
        let request = request(&to, opening).unwrap();
        let (answer, ()) = tokio::join!(ask(&mut here, &request), proxy);
        let not_resumable = matches!(answer, Ok(Answer::NotResumable(_)));
        assert_eq!(not_resumable, fallen_back, "{answer:?}");
    }
}

#[tokio::test]
async fn the_proxy_says_which_node_has_the_name() {
    let mut answer = reply(&DialReply::Named { node: [7; 16] });
    answer.extend(reply(&DialReply::Accepted));
    let answer = asked(answer).await.0.unwrap();
    assert_eq!(answer, Answer::Accepted(Some(NodeId([7; 16]))));
}

#[tokio::test]
async fn garbage_ends_the_dial() {
    let error = asked(vec![0xff; 64]).await.0.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::ConnectionLost);
}
