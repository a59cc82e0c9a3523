//! The one question about trust, asked once per cluster.

use anyhow::Result;
use protocol::identity::CaPin;

use crate::address::ProxyAddr;
use crate::login::prompt::Prompt;

/// How often an answer that is neither yes nor no is asked again.
const TRIES: usize = 3;

/// Asks whether a cluster that nobody knows is the right one.
pub(crate) fn whether_to_trust(prompt: &mut Prompt, proxy: &ProxyAddr, pin: CaPin) -> Result<bool> {
    prompt.say(&format!(
        "The cluster at {proxy} is not known. Its CA pin is\n  {pin}\n"
    ))?;
    for _ in 0..TRIES {
        let answer = prompt.ask("Continue (yes/no)? ")?;
        if let Some(yes) = meaning(&answer) {
            return Ok(yes);
        }
    }
    Ok(false)
}

fn meaning(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "yes" => Some(true),
        "no" | "n" => Some(false),
        // As in ssh, a hasty "y" does not do.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_yes_is_a_yes() {
        assert_eq!(meaning("yes"), Some(true));
        assert_eq!(meaning(" YES "), Some(true));
        assert_eq!(meaning("no"), Some(false));
        for vague in ["y", "", "sure"] {
            assert_eq!(meaning(vague), None);
        }
    }
}
