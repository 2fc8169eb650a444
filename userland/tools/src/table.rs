//! Text in aligned columns.

/// One column's head and side.
#[derive(Clone, Copy)]
pub struct Column {
    pub head: &'static str,
    pub right: bool,
    /// The least width.
    pub width: usize,
}

impl Column {
    pub const fn left(head: &'static str, width: usize) -> Self {
        Self { head, right: false, width }
    }
    pub const fn right(head: &'static str, width: usize) -> Self {
        Self { head, right: true, width }
    }
}

/// Cuts a line after `width` characters.
pub fn cut(line: &str, width: usize) -> &str {
    line.char_indices().nth(width).map_or(line, |(end, _)| &line[..end])
}

/// Lines of cells under their heads, as wide as the widest cell; the last column ends where its text does.
pub fn render(columns: &[Column], rows: &[Vec<String>], heads: bool, width: Option<usize>) -> String {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width.max(column.head.len())).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (at, cell) in cells.enumerate() {
            if at > 0 {
                text.push(' ');
            }
            let space = widths[at].saturating_sub(cell.chars().count());
            if columns[at].right {
                text.extend(std::iter::repeat_n(' ', space));
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', space));
            }
        }
        let text = text.trim_end();
        out.push_str(width.map_or(text, |width| cut(text, width)));
        out.push('\n');
    };
    if heads {
        line(&mut columns.iter().map(|column| column.head));
    }
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// The terminal's rows and columns, if `fd` is one that says so.
pub fn terminal_size(fd: i32) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
    (answer == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_row as usize, size.ws_col as usize))
}

pub fn is_terminal(fd: i32) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::isatty(fd) == 1 }
}
