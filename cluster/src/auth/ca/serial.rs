//! Serial numbers of node certificates: random, as RFC 5280 §4.1.2.2 wants them, with the generation
//! at their end, so that a certificate tells how old it is by itself.

/// Random bytes.
const RANDOM: usize = 12;
/// Bytes of the generation, the highest first.
const GENERATION: usize = 4;

/// A serial number for a node's certificate.
#[must_use]
pub fn of_node(generation: u32) -> Vec<u8> {
    let mut random = rand::random::<[u8; RANDOM]>();
    if let Some(first) = random.first_mut() {
        // Positive, and of the same length always.
        *first = *first & 0x3f | 0x40;
    }
    [&random[..], &generation.to_be_bytes()].concat()
}

/// The generation in a serial number.
#[must_use]
pub fn generation(serial: &[u8]) -> Option<u32> {
    let (random, generation) = serial.split_last_chunk::<GENERATION>()?;
    (random.len() == RANDOM).then(|| u32::from_be_bytes(*generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_positive_unique_and_tells_the_generation() {
        let serials: Vec<_> = [0, 1, 77_777, u32::MAX].map(of_node).into();
        for (serial, wanted) in serials.iter().zip([0, 1, 77_777, u32::MAX]) {
            assert_eq!(generation(serial), Some(wanted));
            assert!(serial[0] & 0x80 == 0 && serial[0] != 0);
        }
        assert_ne!(of_node(1), of_node(1));
        assert_eq!(generation(&[1; 20]), None);
        assert_eq!(generation(&[]), None);
    }
}
