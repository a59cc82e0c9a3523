//! Serial numbers of certificates: random, as RFC 5280 §4.1.2.2 wants them, with what a certificate
//! should tell by itself at their end: how old a node's is, and which of those who have had a name a
//! user's is for.

/// Random bytes.
const RANDOM: usize = 12;

/// A serial number for a node's certificate.
#[must_use]
pub fn of_node(generation: u32) -> Vec<u8> {
    with(&generation.to_be_bytes())
}

/// The generation in a serial number.
#[must_use]
pub fn generation(serial: &[u8]) -> Option<u32> {
    told(serial).map(u32::from_be_bytes)
}

/// A serial number for a user's certificate.
#[must_use]
pub fn of_user(id: u64) -> Vec<u8> {
    with(&id.to_be_bytes())
}

/// The user's id in a serial number.
#[must_use]
pub fn user(serial: &[u8]) -> Option<u64> {
    told(serial).map(u64::from_be_bytes)
}

/// What is told comes last, its highest byte first.
fn with(told: &[u8]) -> Vec<u8> {
    let mut random = rand::random::<[u8; RANDOM]>();
    if let Some(first) = random.first_mut() {
        // Positive, and of the same length always.
        *first = *first & 0x3f | 0x40;
    }
    [&random[..], told].concat()
}

fn told<const N: usize>(serial: &[u8]) -> Option<[u8; N]> {
    let (random, told) = serial.split_last_chunk::<N>()?;
    (random.len() == RANDOM).then_some(*told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_positive_unique_and_tells_what_it_should() {
        let told = [0, 1, 77_777, u32::MAX];
        for wanted in told {
            let (node, id) = (of_node(wanted), (u64::from(wanted) << 32) | 1);
            let of_user = of_user(id);
            assert_eq!(
                (generation(&node), user(&of_user)),
                (Some(wanted), Some(id))
            );
            // The one is not taken for the other.
            assert_eq!((generation(&of_user), user(&node)), (None, None));
            for serial in [node, of_user] {
                assert!(serial[0] & 0x80 == 0 && serial[0] != 0);
                // RFC 5280 §4.1.2.2
                assert!(serial.len() <= 20);
            }
        }
        assert_ne!(of_node(1), of_node(1));
        assert_ne!(of_user(1), of_user(1));
        assert_eq!((generation(&[]), user(&[])), (None, None));
    }
}
