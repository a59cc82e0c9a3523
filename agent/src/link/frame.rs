//! Reads and writes whole frames.

use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::transport::{Fault, FaultKind};

/// Reads one message's bytes; nothing beyond the protocol's limit is ever allocated.
pub(crate) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Fault> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await.map_err(ended)?;
    let length = body_length(header)
        .map_err(|error| Fault::new(FaultKind::Misbehaved, error.to_string()))?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(ended)?;
    Ok(body)
}

/// Lays a message out as a frame.
pub(crate) fn encode(message: &impl serde::Serialize) -> Result<Vec<u8>, Fault> {
    let mut buffer = vec![0; HEADER + MAX_FRAME];
    let length = protocol::message::encode(message, &mut buffer)
        .map_err(Fault::local)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn ended(error: std::io::Error) -> Fault {
    let text = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the cluster ended the stream".to_owned(),
        _ => error.to_string(),
    };
    Fault::new(FaultKind::Closed(None), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::control::ToCluster;

    #[tokio::test]
    async fn frames_follow_each_other() {
        let one = encode(&ToCluster::Heartbeat { seq: 7 }).unwrap();
        let two = encode(&ToCluster::Goodbye).unwrap();
        let bytes = [one, two].concat();
        let mut bytes = bytes.as_slice();
        let body = read(&mut bytes).await.unwrap();
        assert_eq!(
            protocol::message::decode(&body),
            Ok(ToCluster::Heartbeat { seq: 7 })
        );
        let body = read(&mut bytes).await.unwrap();
        assert_eq!(protocol::message::decode(&body), Ok(ToCluster::Goodbye));
        assert_eq!(
            read(&mut bytes).await.unwrap_err().kind,
            FaultKind::Closed(None)
        );
    }

    #[tokio::test]
    async fn an_oversized_frame_is_misbehaviour() {
        let fault = read(&mut [0xff, 0xff, 0].as_slice()).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misbehaved);
        let fault = read(&mut [0, 0].as_slice()).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misbehaved);
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_an_end() {
        let fault = read(&mut [0, 9, 1].as_slice()).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Closed(None));
    }
}
