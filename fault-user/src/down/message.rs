//! rtnetlink messages as the kernel sent them: every attribute is kept as it came, also
//! those that this version knows nothing of.

use rtnetlink::packet_core::{
    DecodeError, Emitable as _, NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLA_TYPE_MASK,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla,
    NlaBuffer, NlasIterator,
};

/// One message: its type, the header of its family of messages, and its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `RTM_NEWADDR` and its like.
    pub kind: u16,
    /// `ifaddrmsg`, `rtmsg` and their like.
    pub header: Vec<u8>,
    /// In the kernel's order.
    pub attributes: Vec<Attribute>,
}

/// An attribute: its type, with the flags in it, and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// Its type and flags.
    pub kind: u16,
    /// Its value.
    pub value: Vec<u8>,
}

impl Message {
    /// One with an empty header of the right length, and no attributes.
    pub fn new(kind: u16) -> Self {
        Self {
            kind,
            header: vec![0; header_len(kind)],
            attributes: Vec::new(),
        }
    }

    /// The value of an attribute.
    pub fn attribute(&self, kind: u16) -> Option<&[u8]> {
        attribute(&self.attributes, kind)
    }

    /// The value of an attribute that is a number.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind).and_then(number)
    }

    /// The value of an attribute that is a text.
    pub fn text(&self, kind: u16) -> Option<String> {
        let value = self.attribute(kind)?;
        let end = value.iter().position(|byte| *byte == 0);
        Some(String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned())
    }

    /// Writes an attribute, over the one that is there.
    pub fn set(&mut self, kind: u16, value: Vec<u8>) {
        self.remove(&[kind]);
        self.attributes.push(Attribute { kind, value });
    }

    /// Takes attributes out.
    pub fn remove(&mut self, kinds: &[u16]) {
        self.attributes
            .retain(|attribute| !kinds.contains(&(attribute.kind & NLA_TYPE_MASK)));
    }

    /// The number at this place of the header.
    pub fn header_number(&self, at: usize) -> u32 {
        self.header.get(at..at + 4).and_then(number).unwrap_or(0)
    }

    /// Writes the number at this place of the header.
    pub fn set_header_number(&mut self, at: usize, number: u32) {
        if let Some(place) = self.header.get_mut(at..at + 4) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
    }

    /// With a netlink header, for the wire or a file.
    pub fn encode(self, flags: u16, sequence: u32) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

/// The value of one of these attributes.
pub fn attribute(attributes: &[Attribute], kind: u16) -> Option<&[u8]> {
    attributes
        .iter()
        .find(|attribute| attribute.kind & NLA_TYPE_MASK == kind)
        .map(|attribute| &*attribute.value)
}

/// A number of one, two or four bytes, in the machine's order.
pub fn number(value: &[u8]) -> Option<u32> {
    Some(match *value {
        [a] => a.into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
        _ => return None,
    })
}

/// The attributes inside a value, or behind a header.
pub fn attributes(bytes: &[u8]) -> Result<Vec<Attribute>, DecodeError> {
    NlasIterator::new(bytes)
        .map(|attribute| {
            let attribute = attribute?;
            Ok(Attribute {
                kind: kind_and_flags(&attribute),
                value: attribute.value().to_vec(),
            })
        })
        .collect()
}

fn kind_and_flags(attribute: &NlaBuffer<&[u8]>) -> u16 {
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    attribute.kind()
        | flag(attribute.nested_flag(), NLA_F_NESTED)
        | flag(attribute.network_byte_order_flag(), NLA_F_NET_BYTEORDER)
}

/// Of the header between netlink's and the attributes, for the messages that we read.
fn header_len(kind: u16) -> usize {
    match kind {
        // ifinfomsg
        16..=19 => 16,
        // rtmsg, ndmsg
        24..=26 | 28..=30 => 12,
        // ifaddrmsg, nhmsg
        _ => 8,
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let kind = header.message_type;
        let Some((head, rest)) = payload.split_at_checked(header_len(kind)) else {
            return Err("a message shorter than its header".to_owned().into());
        };
        Ok(Self {
            kind,
            header: head.to_vec(),
            attributes: attributes(rest)?,
        })
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        self.attributes.as_slice().emit(rest);
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_out_as_they_went_in() {
        let mut message = Message::new(libc::RTM_NEWROUTE);
        message.header[0] = 2;
        message.set(1, vec![10, 0, 0, 1]);
        message.set(0x8000 | 8, vec![1, 2, 3]);
        message.set(999, Vec::new());
        let bytes = message.clone().encode(0, 7);
        assert_eq!(bytes.len() % 4, 0);
        let back = NetlinkMessage::<Message>::deserialize(&bytes).expect("a message");
        assert_eq!(back.payload, NetlinkPayload::InnerMessage(message));
        assert_eq!(back.header.sequence_number, 7);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut bytes = Message::new(libc::RTM_NEWADDR).encode(0, 0);
        bytes.truncate(20);
        bytes[0] = 20;
        assert!(NetlinkMessage::<Message>::deserialize(&bytes).is_err());
    }
}
