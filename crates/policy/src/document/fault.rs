//! Where a document is wrong, and what to do about it.

use jsonc_parser::errors::{ParseError, ParseErrorKind};
use ztna_proto::policy::{Fault, Position};

/// The place of a byte of the text.
pub(super) fn position(text: &str, byte: usize) -> Position {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// What the parser found, with the way out.
pub(super) fn syntax(text: &str, error: &ParseError) -> Fault {
    use ParseErrorKind as K;
    let next = match error.kind() {
        K::ExpectedComma => "put a comma between two entries",
        K::ExpectedColonAfterObjectKey => "write \"name\": value",
        K::ExpectedStringObjectProperty | K::UnexpectedWord => {
            "write names and values in double quotes"
        }
        K::SingleQuotedStringsNotAllowed => "write \"…\" instead of '…'",
        K::UnterminatedArray => "close the list with `]`",
        K::UnterminatedObject => "close the object with `}`",
        K::UnterminatedCommentBlock => "close the comment with `*/`",
        K::MultipleRootJsonValues => "a document is one object; remove what follows it",
        K::NestingDepthExceeded => "nest less; no policy needs this",
        _ => "a document is JSON with comments and trailing commas",
    };
    let at = position(text, error.range().start);
    Fault::new(at, format!("{}; {next}", error.kind()))
}
