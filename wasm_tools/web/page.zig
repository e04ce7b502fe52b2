//! The text being written: white space collapsed, blocks apart by at most one empty line.
const std = @import("std");

pub const Page = struct {
    arena: std.mem.Allocator,
    out: std.ArrayList(u8) = .empty,
    /// Line ends and a space that are owed before the next word.
    lines: usize = 0,
    space: bool = false,
    /// Inside <pre>: white space stands as it is.
    verbatim: bool = false,

    pub fn write(self: *Page, text: []const u8) error{OutOfMemory}!void {
        if (self.verbatim) return self.exactly(text);
        var at: usize = 0;
        while (at < text.len) {
            if (isSpace(text, at)) |bytes| {
                self.space = true;
                at += bytes;
                continue;
            }
            const start = at;
            while (at < text.len and isSpace(text, at) == null) at += 1;
            try self.word(text[start..at]);
        }
    }

    /// ASCII white space and the no-break space, by its length in bytes.
    fn isSpace(text: []const u8, at: usize) ?usize {
        if (std.ascii.isWhitespace(text[at])) return 1;
        return if (std.mem.startsWith(u8, text[at..], "\u{A0}")) 2 else null;
    }

    fn word(self: *Page, text: []const u8) error{OutOfMemory}!void {
        try self.settle();
        try self.out.appendSlice(self.arena, text);
    }

    fn settle(self: *Page) error{OutOfMemory}!void {
        if (self.out.items.len > 0) {
            if (self.lines > 0) {
                try self.out.appendNTimes(self.arena, '\n', self.lines -| self.ended());
            } else if (self.space and self.out.getLast() != '\n') {
                try self.out.append(self.arena, ' ');
            }
        }
        self.lines = 0;
        self.space = false;
    }

    /// How many line ends the text has at its end, two at most.
    fn ended(self: *const Page) usize {
        const text = self.out.items;
        if (text.len == 0 or text[text.len - 1] != '\n') return 0;
        return if (text.len > 1 and text[text.len - 2] == '\n') 2 else 1;
    }

    fn exactly(self: *Page, text: []const u8) error{OutOfMemory}!void {
        if (text.len == 0) return;
        try self.settle();
        try self.out.appendSlice(self.arena, text);
    }

    /// Owes at least that many line ends.
    pub fn line(self: *Page, ends: usize) void {
        self.lines = @max(self.lines, ends);
    }

    pub fn item(self: *Page) error{OutOfMemory}!void {
        self.line(1);
        try self.word("-");
        self.space = true;
    }

    /// A cell's edge, if it is not the first of its row.
    pub fn cell(self: *Page) error{OutOfMemory}!void {
        if (self.lines > 0 or self.out.items.len == 0) return;
        self.space = true;
        try self.word("|");
        self.space = true;
    }

    /// Text that belongs to the last word, whatever is owed after it.
    pub fn append(self: *Page, parts: []const []const u8) error{OutOfMemory}!void {
        for (parts) |part| try self.out.appendSlice(self.arena, part);
    }

    pub fn length(self: *const Page) usize {
        return self.out.items.len;
    }

    /// What was written after `start`.
    pub fn since(self: *const Page, start: usize) []const u8 {
        return std.mem.trim(u8, self.out.items[start..], " \n");
    }

    pub fn finish(self: *const Page) []const u8 {
        return std.mem.trim(u8, self.out.items, " \t\r\n");
    }
};
