//! Elements of DER (X.690, sections 8.1 and 10.1), from the first to the last.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;

/// What is left to read. None wherever it is not DER, or not what was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl Der<'_> {
    /// What is in the one element with this tag that all of it is.
    pub(crate) fn whole(mut self, tag: u8) -> Option<Self> {
        let inside = self.next(tag)?;
        self.is_at_end().then_some(inside)
    }

    /// What is in the next element, which has this tag.
    pub(crate) fn next(&mut self, tag: u8) -> Option<Self> {
        let (found, inside) = self.any()?;
        (found == tag).then_some(inside)
    }

    /// The next element: its tag, and what is in it.
    pub(crate) fn any(&mut self) -> Option<(u8, Self)> {
        // A length is as short as it can be. Nothing that the agent reads has more than three bytes of it.
        let (tag, length, rest) = match *self.0 {
            [tag, length @ 0..=0x7f, ref rest @ ..] | [tag, 0x81, length @ 0x80..=0xff, ref rest @ ..] => {
                (tag, u32::from(length), rest)
            }
            [tag, 0x82, high @ 1..=0xff, low, ref rest @ ..] => (tag, u32::from_be_bytes([0, 0, high, low]), rest),
            [tag, 0x83, high @ 1..=0xff, middle, low, ref rest @ ..] => {
                (tag, u32::from_be_bytes([0, high, middle, low]), rest)
            }
            _ => return None,
        };
        let (inside, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = after;
        Some((tag, Self(inside)))
    }

    /// The tag of the next element, where there is one.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_form_only() {
        let read = |length: &[u8]| {
            Der(&[&[SEQUENCE][..], length, &vec![0; 70_000]].concat()).next(SEQUENCE).map(|der| der.0.len())
        };
        for longer in [&[0x81, 0x05][..], &[0x82, 0x00, 0x85], &[0x83, 0x00, 0x01, 0x2c], &[0x80], &[0x84, 0, 0, 0, 1]]
        {
            assert_eq!(read(longer), None);
        }
        assert_eq!(read(&[0x05]), Some(5));
        assert_eq!(read(&[0x81, 0x85]), Some(0x85));
        assert_eq!(read(&[0x82, 0x01, 0x2c]), Some(300));
        assert_eq!(read(&[0x83, 0x01, 0x00, 0x00]), Some(65_536));
        assert_eq!(read(&[0x83, 0x02, 0x00, 0x00]), None, "longer than what is there");
    }
}
