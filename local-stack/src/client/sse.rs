//! The wire format of server-sent events, as the HTML standard defines it ("Parsing an event stream"),
//! except that every block is shown: also those without data, and what comments say.
//!
//! Invariant: the frames do not depend on how the bytes were cut into pieces.

use std::time::Duration;

/// A block of lines up to an empty line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<String>,
    pub event: Option<String>,
    /// Several lines of data are joined by a line feed. Without data there is no event.
    pub data: Option<String>,
    pub retry: Option<Duration>,
    pub comments: Vec<String>,
}

/// Takes bytes as they come and gives frames as they become complete.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    frame: Frame,
    /// A line feed right behind a carriage return belongs to it.
    after_return: bool,
    started: bool,
}

impl Parser {
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let feed_of_return = self.after_return && byte == b'\n';
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if feed_of_return => {}
                b'\n' | b'\r' => complete.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        complete
    }

    fn end_line(&mut self) -> Option<Frame> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = if std::mem::replace(&mut self.started, true) {
            line.as_ref()
        } else {
            line.trim_start_matches('\u{feff}')
        };
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (frame != Frame::default()).then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.frame.comments.push(value.to_owned()),
            "event" => self.frame.event = Some(value.to_owned()),
            "data" => match &mut self.frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|digit| digit.is_ascii_digit()) => {
                self.frame.retry = value.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Vec<Frame> {
        Parser::default().push(text.as_bytes())
    }

    #[test]
    fn a_stream_of_the_service_is_read() {
        let frames = parse("retry: 1500\nid: 41\n\n:\n\nid: 42\nevent: room_closed\ndata: {\"seq\":42}\n\n");
        assert_eq!(
            frames,
            [
                Frame {
                    id: Some("41".to_owned()),
                    retry: Some(Duration::from_millis(1500)),
                    ..Frame::default()
                },
                Frame {
                    comments: vec![String::new()],
                    ..Frame::default()
                },
                Frame {
                    id: Some("42".to_owned()),
                    event: Some("room_closed".to_owned()),
                    data: Some("{\"seq\":42}".to_owned()),
                    ..Frame::default()
                },
            ]
        );
    }

    #[test]
    fn lines_end_as_the_standard_allows() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["data: 첫 줄", "data:둘째", "data", "", "data: b", ""].join(end) + end;
            let data: Vec<_> = parse(&text)
                .into_iter()
                .map(|frame| frame.data.unwrap())
                .collect();
            assert_eq!(data, ["첫 줄\n둘째\n", "b"], "{end:?}");
        }
    }

    #[test]
    fn what_is_not_complete_or_not_known_is_no_frame() {
        assert_eq!(parse("data: cut\nid: 1\n"), []);
        assert_eq!(parse("\n\n\nunknown: 1\n\n"), []);
        assert_eq!(parse("retry: soon\n\n"), []);
        assert_eq!(parse("\u{feff}data: a\n\n")[0].data.as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_bytes_are_cut(
            lines in prop::collection::vec(
                prop_oneof![
                    Just(String::new()),
                    "(id|event|data|retry|other)(: ?[가-힣a-z0-9:]{0,6})?",
                    ": ?[가-힣]{0,3}",
                ],
                0..30,
            ),
            ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 30),
            cuts in prop::collection::vec(0usize..2000, 0..20),
        ) {
            let text: String = lines.iter().zip(ends).flat_map(|(line, end)| [line.as_str(), end]).collect();
            let whole = parse(&text);

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            let pieces: Vec<Frame> = cuts
                .windows(2)
                .flat_map(|cut| parser.push(&text.as_bytes()[cut[0]..cut[1]]))
                .collect();
            prop_assert_eq!(&pieces, &whole);

            let mut parser = Parser::default();
            let bytes: Vec<Frame> = text.bytes().flat_map(|byte| parser.push(&[byte])).collect();
            prop_assert_eq!(&bytes, &whole);
        }
    }
}
