//! Cuts what arrives on an attachment into frames, whatever pieces it comes in.

use super::frame::{Bytes, Frame, Malformed, length};

/// The next thing on an attachment.
#[derive(Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded on the stack, read and dropped; never kept"
)]
pub(super) enum Item<'a> {
    /// A whole frame; if it is DATA, its bytes come as items of their own.
    Frame(Frame),
    /// Bytes of the stream, as many as have arrived.
    Data(&'a [u8]),
}

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Parser {
    /// The beginning of a frame that has not arrived whole.
    begun: Bytes,
    /// Bytes of the present DATA frame to come.
    payload: usize,
}

impl Parser {
    /// Takes the next item off `bytes`; `None` once they are used up.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Item<'a>>, Malformed> {
        if self.payload > 0 {
            return Ok(self.data(bytes));
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.begun.push(byte).map_err(|_| Malformed)?;
            let kind = self.begun.first().copied().unwrap_or(byte);
            if self.begun.len() == length(kind).ok_or(Malformed)? {
                return self.frame().map(Some);
            }
        }
        Ok(None)
    }

    /// So many of the next bytes are the stream's.
    pub(super) const fn expects(&self) -> usize {
        self.payload
    }

    /// So many of them were taken without it.
    pub(super) const fn skip(&mut self, count: usize) {
        self.payload = self.payload.saturating_sub(count);
    }

    fn data<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Item<'a>> {
        let (data, rest) = bytes.split_at_checked(self.payload).unwrap_or((bytes, &[]));
        *bytes = rest;
        self.payload -= data.len();
        (!data.is_empty()).then_some(Item::Data(data))
    }

    fn frame<'a>(&mut self) -> Result<Item<'a>, Malformed> {
        let frame = Frame::decode(&self.begun)?;
        self.begun.clear();
        if let Frame::Data { length } = frame {
            self.payload = usize::from(length);
        }
        Ok(Item::Frame(frame))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn frames_come_out_whole_wherever_the_bytes_are_cut() {
        let mut bytes = Frame::Ping.encode().to_vec();
        bytes.extend(Frame::Data { length: 3 }.encode());
        bytes.extend(b"abc");
        bytes.extend(Frame::Resumed { from: 7 }.encode());
        for cut in 0..=bytes.len() {
            let (mut parser, mut frames, mut data) = (Parser::default(), vec![], vec![]);
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                while let Some(item) = parser.next(&mut part).unwrap() {
                    match item {
                        Item::Frame(frame) => frames.push(frame),
                        Item::Data(bytes) => data.extend(bytes),
                    }
                }
            }
            let expected = [
                Frame::Ping,
                Frame::Data { length: 3 },
                Frame::Resumed { from: 7 },
            ];
            assert_eq!((&frames[..], &data[..]), (&expected[..], &b"abc"[..]));
        }
    }

    #[test]
    fn an_unknown_frame_is_refused_by_its_first_byte() {
        for kind in 0..=u8::MAX {
            let refused = Parser::default().next(&mut &[kind][..]).is_err();
            assert_eq!(refused, length(kind).is_none(), "{kind}");
        }
    }
}
