//! A path's text, component by component (path_resolution(7)).

/// One component of a text, by its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Component {
    pub start: usize,
    /// One beyond its last byte.
    pub end: usize,
    /// Nothing but slashes follows.
    pub is_last: bool,
    /// At least one slash follows: what it names must be a directory.
    pub has_slash: bool,
}

/// The component at or after `position`, which is where one begins or its slashes do; `None` when nothing but slashes is left.
#[inline(always)]
pub fn component(text: &[u8], position: usize) -> Option<Component> {
    let mut start = position;
    while start < text.len() && text[start] == b'/' {
        start += 1;
    }
    if start >= text.len() {
        return None;
    }
    let end = text[start..].iter().position(|&byte| byte == b'/').map_or(text.len(), |count| start + count);
    let mut rest = end;
    while rest < text.len() && text[rest] == b'/' {
        rest += 1;
    }
    Some(Component { start, end, is_last: rest == text.len(), has_slash: rest > end })
}

/// Whether nothing but slashes is left at `position`.
#[inline]
pub fn is_done(text: &[u8], position: usize) -> bool {
    text[position.min(text.len())..].iter().all(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn components(text: &str) -> Vec<(&str, bool, bool)> {
        let mut position = 0;
        let mut out = Vec::new();
        while let Some(Component { start, end, is_last, has_slash }) = component(text.as_bytes(), position) {
            assert_eq!(is_last, is_done(text.as_bytes(), end));
            out.push((&text[start..end], is_last, has_slash));
            position = end;
        }
        assert!(is_done(text.as_bytes(), position));
        out
    }

    #[test]
    fn slashes_separate_and_end() {
        assert_eq!(components("usr"), [("usr", true, false)]);
        assert_eq!(components("/usr//lib/"), [("usr", false, true), ("lib", true, true)]);
        assert_eq!(
            components("a/./../b///"),
            [("a", false, true), (".", false, true), ("..", false, true), ("b", true, true)]
        );
        assert_eq!(components("///"), []);
        assert_eq!(components(""), []);
    }

    proptest! {
        #[test]
        fn as_splitting_does(text in "[a./]{0,20}") {
            let found: Vec<&str> = components(&text).into_iter().map(|(name, _, _)| name).collect();
            let expected: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
            prop_assert_eq!(found.len(), components(&text).iter().filter(|(_, last, _)| !last).count() + usize::from(!expected.is_empty()));
            prop_assert_eq!(found, expected);
        }
    }
}
