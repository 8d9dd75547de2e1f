//! The few messages of TensorFlow's protocol that event files hold, encoded by hand: `Event`, `Summary`, `SessionLog`
//! and the tensor of one string (`tensorflow/core`: `util/event.proto`, `framework/summary.proto`,
//! `framework/tensor.proto`).

/// Protocol Buffers: bytes of a message, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }
}

/// A value of a summary, encoded.
pub(super) struct Value(Message);

impl Value {
    /// A number under a tag.
    pub(super) fn scalar(tag: &str, value: f32) -> Value {
        Value(Message::default().bytes(1, tag.as_bytes()).float(2, value))
    }

    /// A text under a tag, Markdown.
    pub(super) fn text(tag: &str, text: &str) -> Value {
        const DT_STRING: u64 = 7;
        const DATA_CLASS_TENSOR: u64 = 2;
        let shape = Message::default().message(2, &Message::default().number(1, 1));
        let tensor = Message::default().number(1, DT_STRING).message(2, &shape).bytes(8, text.as_bytes());
        let plugin = Message::default().bytes(1, b"text");
        let metadata = Message::default().message(1, &plugin).number(4, DATA_CLASS_TENSOR);
        Value(Message::default().bytes(1, tag.as_bytes()).message(8, &tensor).message(9, &metadata))
    }
}

/// What an event holds.
pub(super) enum Content<'a> {
    /// The version of the format; the first of each file.
    Version,
    /// A session begins: TensorBoard drops what files before hold from the event's step on.
    Start,
    /// Values.
    Summary(&'a [Value]),
}

/// An event at a time, in seconds since 1970, and a step.
pub(super) fn event(seconds: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    const START: u64 = 1;
    let event = Message::default().double(1, seconds).number(2, step);
    let event = match content {
        Content::Version => event.bytes(3, b"brain.Event:2"),
        Content::Start => event.message(7, &Message::default().number(1, START)),
        Content::Summary(values) => {
            let summary = values.iter().fold(Message::default(), |summary, value| summary.message(1, &value.0));
            event.message(5, &summary)
        }
    };
    event.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_protocol_buffers() {
        // 150 as a varint is 96 01 (the format's own documentation).
        assert_eq!(Message::default().number(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, b"testing").0, b"\x12\x07testing");
        let one = event(1.5, 300, &Content::Summary(&[Value::scalar("a", 2.0)]));
        let mut expected = vec![0x09];
        expected.extend(1.5f64.to_le_bytes());
        expected.extend([0x10, 0xAC, 0x02, 0x2A, 0x0A, 0x0A, 0x08, 0x0A, 0x01, b'a', 0x15, 0, 0, 0, 0x40]);
        assert_eq!(one, expected);
    }
}
