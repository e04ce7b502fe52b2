//! A regular expression's text to its tree.
//!
//! Python's syntax less what cannot be matched in linear time (look-around, back-references).
//! `\d` is ASCII, `\s` is Unicode white space, `\w` is letters, digits and `_` (see `class.zig`).
const std = @import("std");
const guest = @import("guest");
const class = @import("class.zig");

pub const Node = union(enum) {
    empty,
    set: class.Set,
    assert: Assert,
    group: struct { index: u32, inner: *const Node },
    concat: []const Node,
    alternate: []const Node,
    repeat: Repeat,
};

pub const Assert = enum { text_start, text_end, line_start, line_end, last_line_end, word_edge, no_word_edge };

pub const Repeat = struct { inner: *const Node, least: u32, most: ?u32, lazy: bool };

pub const Tree = struct { root: Node, groups: u32 };

const max_nesting = 50;
const max_groups = 50;
const max_repeat = 1_000;

pub fn parse(call: *guest.Call, pattern: []const u8) guest.Error!Tree {
    var parser: Parser = .{ .call = call, .source = pattern };
    try parser.flags();
    const root = try parser.alternation();
    if (parser.at < pattern.len) return call.fail("the pattern has a ) without its (", .{});
    return .{ .root = root, .groups = parser.groups };
}

const Parser = struct {
    call: *guest.Call,
    source: []const u8,
    at: usize = 0,
    groups: u32 = 0,
    nesting: usize = 0,
    ignore_case: bool = false,
    multiline: bool = false,
    dot_all: bool = false,

    fn fail(self: *Parser, words: []const u8) guest.Error {
        return self.call.fail("the pattern {s}", .{words});
    }

    fn peek(self: *const Parser) ?u8 {
        return if (self.at < self.source.len) self.source[self.at] else null;
    }

    fn eat(self: *Parser, expected: []const u8) bool {
        if (!std.mem.startsWith(u8, self.source[self.at..], expected)) return false;
        self.at += expected.len;
        return true;
    }

    /// The next whole character.
    fn character(self: *Parser) guest.Error!u21 {
        if (self.at == self.source.len) return self.fail("ends too early");
        const length = std.unicode.utf8ByteSequenceLength(self.source[self.at]) catch 1;
        const bytes = self.source[self.at..@min(self.source.len, self.at + length)];
        self.at += bytes.len;
        return std.unicode.utf8Decode(bytes) catch bytes[0];
    }

    /// `(?ims)` in front.
    fn flags(self: *Parser) guest.Error!void {
        if (!std.mem.startsWith(u8, self.source, "(?")) return;
        const end = std.mem.indexOfNonePos(u8, self.source, 2, "ims") orelse return;
        if (end == 2 or self.source[end] != ')') return;
        for (self.source[2..end]) |flag| switch (flag) {
            'i' => self.ignore_case = true,
            'm' => self.multiline = true,
            else => self.dot_all = true,
        };
        self.at = end + 1;
    }

    fn alternation(self: *Parser) guest.Error!Node {
        self.nesting += 1;
        defer self.nesting -= 1;
        if (self.nesting > max_nesting) return self.fail("is nested too deep");
        var branches: std.ArrayList(Node) = .empty;
        try branches.append(self.call.arena, try self.sequence());
        while (self.eat("|")) try branches.append(self.call.arena, try self.sequence());
        return if (branches.items.len == 1) branches.items[0] else .{ .alternate = branches.items };
    }

    fn sequence(self: *Parser) guest.Error!Node {
        var items: std.ArrayList(Node) = .empty;
        while (self.peek()) |next| {
            if (next == '|' or next == ')') break;
            const atom = try self.quantified(try self.single());
            try items.append(self.call.arena, atom);
        }
        return if (items.items.len == 1) items.items[0] else .{ .concat = items.items };
    }

    fn quantified(self: *Parser, atom: Node) guest.Error!Node {
        const count = try self.quantifier() orelse return atom;
        const lazy = self.eat("?");
        if (!lazy and try self.quantifier() != null) return self.fail("repeats a repetition");
        const inner = try self.call.arena.create(Node);
        inner.* = atom;
        return .{ .repeat = .{ .inner = inner, .least = count.least, .most = count.most, .lazy = lazy } };
    }

    const Count = struct { least: u32, most: ?u32 };

    fn quantifier(self: *Parser) guest.Error!?Count {
        if (self.eat("*")) return .{ .least = 0, .most = null };
        if (self.eat("+")) return .{ .least = 1, .most = null };
        if (self.eat("?")) return .{ .least = 0, .most = 1 };
        if (self.peek() == '{') return self.counted();
        return null;
    }

    /// `{2}`, `{2,}`, `{,3}`, `{2,3}` or `{,}`; anything else in braces is plain text.
    fn counted(self: *Parser) guest.Error!?Count {
        const rest = self.source[self.at + 1 ..];
        const end = std.mem.indexOfScalar(u8, rest, '}') orelse return null;
        const body = rest[0..end];
        if (body.len == 0 or std.mem.indexOfNone(u8, body, "0123456789,") != null) return null;
        const comma = std.mem.indexOfScalar(u8, body, ',');
        const low = if (comma) |at| body[0..at] else body;
        const high = if (comma) |at| body[at + 1 ..] else body;
        if (std.mem.indexOfScalar(u8, high, ',') != null) return null;
        const least = if (low.len == 0) 0 else try self.bound(low);
        const most = if (high.len == 0) null else try self.bound(high);
        if (most) |top| if (least > top) return self.fail("has a repetition {m,n} with m over n");
        self.at += end + 2;
        return .{ .least = least, .most = most };
    }

    fn bound(self: *Parser, digits: []const u8) guest.Error!u32 {
        const value = std.fmt.parseInt(u32, digits, 10) catch max_repeat + 1;
        if (value > max_repeat) return self.fail("repeats more than 1000 times");
        return value;
    }

    fn single(self: *Parser) guest.Error!Node {
        switch (self.source[self.at]) {
            '(' => return self.group(),
            '[' => return self.bracket(),
            '\\' => return self.escape(),
            '*', '+', '?' => return self.fail("has nothing to repeat"),
            else => {},
        }
        if (self.eat(".")) return self.set(if (self.dot_all) class.anything else class.not_newline);
        if (self.eat("^")) return .{ .assert = if (self.multiline) .line_start else .text_start };
        if (self.eat("$")) return .{ .assert = if (self.multiline) .line_end else .last_line_end };
        return self.literal(try self.character());
    }

    fn set(self: *Parser, value: class.Set) Node {
        return .{ .set = value.prepared(self.ignore_case) };
    }

    fn literal(self: *Parser, point: u21) guest.Error!Node {
        const items = try self.call.arena.alloc(class.Item, 1);
        items[0] = .{ .range = .{ .low = point, .high = point } };
        return self.set(.{ .items = items });
    }

    fn group(self: *Parser) guest.Error!Node {
        self.at += 1;
        var index: ?u32 = null;
        if (self.eat("?")) {
            if (!self.eat(":")) {
                try self.name();
                index = try self.number();
            }
        } else index = try self.number();
        const inner = try self.call.arena.create(Node);
        inner.* = try self.alternation();
        if (!self.eat(")")) return self.fail("has a ( without its )");
        return if (index) |number_| .{ .group = .{ .index = number_, .inner = inner } } else inner.*;
    }

    fn number(self: *Parser) guest.Error!u32 {
        self.groups += 1;
        if (self.groups > max_groups) return self.fail("has more than 50 groups");
        return self.groups;
    }

    /// `P<name>` or `<name>`: named groups count as numbered ones.
    fn name(self: *Parser) guest.Error!void {
        const named = self.eat("P<") or (self.peek() == '<' and !self.behind() and self.eat("<"));
        if (!named) return self.fail("has a (?…) that is not supported: use (?:…), (?P<name>…), or (?ims) in front");
        const start = self.at;
        while (self.peek()) |next| : (self.at += 1) if (next == '>') break;
        if (self.at == start or !self.eat(">")) return self.fail("has a group name that is not closed");
    }

    fn behind(self: *const Parser) bool {
        const next = if (self.at + 1 < self.source.len) self.source[self.at + 1] else 0;
        return next == '=' or next == '!';
    }

    fn escape(self: *Parser) guest.Error!Node {
        self.at += 1;
        const next = self.peek() orelse return self.fail("ends with a \\");
        if (assertion(next)) |kind| {
            self.at += 1;
            return .{ .assert = kind };
        }
        const item = try self.escaped();
        const items = try self.call.arena.alloc(class.Item, 1);
        items[0] = item;
        return self.set(.{ .items = items });
    }

    fn assertion(letter: u8) ?Assert {
        return switch (letter) {
            'b' => .word_edge,
            'B' => .no_word_edge,
            'A' => .text_start,
            'Z', 'z' => .text_end,
            else => null,
        };
    }

    /// What follows a backslash, where it stands for characters.
    fn escaped(self: *Parser) guest.Error!class.Item {
        const point = try self.character();
        if (point >= 0x80 or !std.ascii.isAlphanumeric(@intCast(point))) return exactly(point);
        return switch (@as(u8, @intCast(point))) {
            'd' => .{ .kind = .{ .of = .digit } },
            'D' => .{ .kind = .{ .of = .digit, .negated = true } },
            's' => .{ .kind = .{ .of = .space } },
            'S' => .{ .kind = .{ .of = .space, .negated = true } },
            'w' => .{ .kind = .{ .of = .word } },
            'W' => .{ .kind = .{ .of = .word, .negated = true } },
            'n' => exactly('\n'),
            't' => exactly('\t'),
            'r' => exactly('\r'),
            'f' => exactly(0x0C),
            'v' => exactly(0x0B),
            '0' => exactly(self.octal()),
            'x' => exactly(try self.hex(2)),
            'u' => exactly(try self.hex(4)),
            '1'...'9' => self.fail("has a back-reference, which is not supported"),
            else => self.fail("has a \\ before a letter that means nothing"),
        };
    }

    fn exactly(point: u21) class.Item {
        return .{ .range = .{ .low = point, .high = point } };
    }

    fn hex(self: *Parser, digits: usize) guest.Error!u21 {
        if (self.at + digits > self.source.len) return self.fail("ends within a \\x or \\u");
        var value: u21 = 0;
        for (self.source[self.at..][0..digits]) |digit| {
            value = value * 16 + (std.fmt.charToDigit(digit, 16) catch
                return self.fail("has a \\x or \\u without its hexadecimal digits"));
        }
        self.at += digits;
        return value;
    }

    /// Up to two digits after `\0`.
    fn octal(self: *Parser) u21 {
        var value: u21 = 0;
        for (0..2) |_| {
            const digit = std.fmt.charToDigit(self.peek() orelse break, 8) catch break;
            value = value * 8 + digit;
            self.at += 1;
        }
        return value;
    }

    fn bracket(self: *Parser) guest.Error!Node {
        self.at += 1;
        const negated = self.eat("^");
        var items: std.ArrayList(class.Item) = .empty;
        while (items.items.len == 0 or self.peek() != ']') {
            if (self.at == self.source.len) return self.fail("has a [ without its ]");
            try items.append(self.call.arena, try self.range());
        }
        self.at += 1;
        return self.set(.{ .items = items.items, .negated = negated });
    }

    fn range(self: *Parser) guest.Error!class.Item {
        const low = try self.member();
        const rest = self.source[self.at..];
        if (rest.len < 2 or rest[0] != '-' or rest[1] == ']') return low;
        self.at += 1;
        const high = try self.member();
        if (low != .range or high != .range) return self.fail("has a range with a \\d, \\s or \\w at its end");
        if (low.range.low > high.range.low) return self.fail("has a range whose ends are the wrong way round");
        return .{ .range = .{ .low = low.range.low, .high = high.range.low } };
    }

    fn member(self: *Parser) guest.Error!class.Item {
        if (!self.eat("\\")) return exactly(try self.character());
        if (self.eat("b")) return exactly(8);
        return self.escaped();
    }
};
