//! Texts that one person gives and others read.

/// Whether a character is none to be seen, or changes how those around it are read: controls, line separators, what
/// turns the direction of writing, and what has no width (Unicode's `Bidi_Control`, and those of
/// `Default_Ignorable_Code_Point` that do not choose the form of an emoji). With them, two names that differ look alike,
/// or a name reads as another than it is.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Whether a text has such a character.
pub(crate) fn has_hidden(text: &str) -> bool {
    text.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_passes_and_what_hides_does_not() {
        for good in [
            "Acme & Söhne",
            "日本",
            "עברית",
            "العربية",
            "a\u{301}",
            "❤\u{fe0f}",
            "",
        ] {
            assert!(!has_hidden(good), "{good}");
        }
        for bad in [
            "\u{7}",
            "\n",
            "\u{85}",
            "\u{200b}",
            "\u{200d}",
            "\u{200e}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{feff}",
            "\u{ad}",
            "\u{61c}",
            "\u{2028}",
            "\u{3164}",
            "\u{e0041}",
        ] {
            assert!(has_hidden(&format!("a{bad}b")), "{bad:?}");
        }
    }
}
