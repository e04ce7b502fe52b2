//! The text being written: white space collapsed, blocks apart by at most one empty line, a table's
//! cells in their columns.
const std = @import("std");

/// Cells beyond are put one after the other.
const max_columns = 64;

pub const Page = struct {
    arena: std.mem.Allocator,
    out: std.ArrayList(u8) = .empty,
    /// Line ends and a space that are owed before the next word.
    lines: usize = 0,
    space: bool = false,
    /// Inside <pre>: white space stands as it is.
    verbatim: bool = false,
    /// A bullet or a cell's edge came last: a block that begins here begins on its line.
    marked: bool = false,
    /// Where the row began, the column of its last cell, and the next that is free.
    row_start: usize = 0,
    last_column: usize = 0,
    column: usize = 0,
    /// Rows of the table so far, and the first one of each column that no cell above reaches into.
    rows: usize = 0,
    free_from: [max_columns]usize = @splat(0),

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
        self.marked = false;
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
        if (!self.marked) self.lines = @max(self.lines, ends);
    }

    pub fn item(self: *Page) error{OutOfMemory}!void {
        self.marked = false;
        self.line(1);
        try self.mark("-");
    }

    fn mark(self: *Page, text: []const u8) error{OutOfMemory}!void {
        try self.word(text);
        self.space = true;
        self.marked = true;
    }

    pub fn table(self: *Page) void {
        self.row();
        self.line(2);
        self.rows = 0;
        self.free_from = @splat(0);
    }

    /// A row's beginning or its end; what its cells owed stays within it.
    pub fn row(self: *Page) void {
        self.marked = false;
        if (self.column > 0) self.lines = 1 else self.line(1);
        self.rows += @intFromBool(self.column > 0);
        self.row_start = self.out.items.len;
        self.last_column = 0;
        self.column = 0;
    }

    /// A cell of that many columns and rows: as many edges as there are columns since the last one.
    pub fn cell(self: *Page, columns: usize, rows: usize) error{OutOfMemory}!void {
        while (self.column < max_columns and self.free_from[self.column] > self.rows) self.column += 1;
        if (self.out.items.len > self.row_start and self.column > 0) self.lines = 0;
        self.space = true;
        for (self.last_column..self.column) |_| try self.mark("|");
        self.marked = true;
        self.last_column = self.column;
        const start = @min(self.column, max_columns);
        const taken = self.free_from[start..@min(start + columns, max_columns)];
        @memset(taken, self.rows + rows);
        self.column += @max(1, taken.len);
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
