//! One tag as it stands in the page, and the characters that `&…;` names.
const std = @import("std");
const named = @import("entities.zig").named;

pub const Tag = struct {
    name: []const u8,
    attributes: []const u8,
    closing: bool,
    length: usize,

    /// The tag that `source` begins with; null where the `<` is only a character.
    pub fn scan(source: []const u8) ?Tag {
        const closing = source.len > 1 and source[1] == '/';
        const start: usize = if (closing) 2 else 1;
        if (start >= source.len or !std.ascii.isAlphabetic(source[start])) return null;
        var at = start;
        while (at < source.len and !ends(source[at])) at += 1;
        const name = source[start..at];
        const end = close(source, at);
        return .{
            .name = name,
            .attributes = source[at..end],
            .closing = closing,
            .length = @min(source.len, end + 1),
        };
    }

    fn ends(byte: u8) bool {
        return std.ascii.isWhitespace(byte) or byte == '/' or byte == '>';
    }

    /// Where the tag's `>` is, past those in quoted values.
    fn close(source: []const u8, from: usize) usize {
        var quote: u8 = 0;
        var last: u8 = 0;
        for (source[from..], from..) |byte, at| {
            if (quote != 0) {
                if (byte == quote) quote = 0;
            } else if (byte == '>') {
                return at;
            } else if ((byte == '"' or byte == '\'') and last == '=') {
                quote = byte;
            }
            if (!std.ascii.isWhitespace(byte)) last = byte;
        }
        return source.len;
    }

    pub fn is(self: Tag, name: []const u8) bool {
        return std.ascii.eqlIgnoreCase(self.name, name);
    }

    /// Whether it has no content, where the page is one in which `/>` says so.
    pub fn closesItself(self: Tag) bool {
        return std.mem.endsWith(u8, self.attributes, "/");
    }

    /// The first attribute of that name, its entities still in it.
    pub fn attribute(self: Tag, name: []const u8) ?[]const u8 {
        var rest = self.attributes;
        while (true) {
            rest = std.mem.trimStart(u8, rest, " \t\r\n\x0C/");
            if (rest.len == 0) return null;
            const end = std.mem.indexOfAny(u8, rest, " \t\r\n\x0C/=") orelse rest.len;
            const found = rest[0..end];
            rest = std.mem.trimStart(u8, rest[end..], " \t\r\n\x0C");
            const value, rest = if (rest.len > 0 and rest[0] == '=') read(rest[1..]) else .{ "", rest };
            if (std.ascii.eqlIgnoreCase(found, name)) return value;
        }
    }

    fn read(raw: []const u8) struct { []const u8, []const u8 } {
        const rest = std.mem.trimStart(u8, raw, " \t\r\n\x0C");
        if (rest.len > 0 and (rest[0] == '"' or rest[0] == '\'')) {
            const end = std.mem.indexOfScalarPos(u8, rest, 1, rest[0]) orelse rest.len;
            return .{ rest[1..end], rest[@min(rest.len, end + 1)..] };
        }
        const end = std.mem.indexOfAny(u8, rest, " \t\r\n\x0C") orelse rest.len;
        return .{ rest[0..end], rest[end..] };
    }
};

/// The text with its `&…;` replaced by what they name; others stand as they are.
pub fn decode(arena: std.mem.Allocator, raw: []const u8) error{OutOfMemory}![]const u8 {
    var at = std.mem.indexOfScalar(u8, raw, '&') orelse return raw;
    var out: std.ArrayList(u8) = .empty;
    try out.appendSlice(arena, raw[0..at]);
    while (at < raw.len) {
        if (raw[at] == '&') if (entity(raw[at..])) |found| {
            var bytes: [4]u8 = undefined;
            const length = std.unicode.utf8Encode(found.point, &bytes) catch unreachable;
            try out.appendSlice(arena, bytes[0..length]);
            at += found.length;
            continue;
        };
        const next = std.mem.indexOfScalarPos(u8, raw, at + 1, '&') orelse raw.len;
        try out.appendSlice(arena, raw[at..next]);
        at = next;
    }
    return out.items;
}

const Entity = struct { point: u21, length: usize };

/// The `;` may be left out after a number, and after the oldest names (amp, lt, gt, quot and those of
/// Latin-1) where no letter, digit or `=` follows, as one does in an address.
fn entity(raw: []const u8) ?Entity {
    if (raw.len > 1 and raw[1] == '#') return numbered(raw);
    const end = run(raw, 1, std.ascii.isAlphanumeric);
    const point = named.get(raw[1..end]) orelse return null;
    if (end < raw.len and raw[end] == ';') return .{ .point = point, .length = end + 1 };
    if (end < raw.len and raw[end] == '=') return null;
    return switch (point) {
        '&', '<', '>', '"', 0xA0...0xFF => .{ .point = point, .length = end },
        else => null,
    };
}

/// Numbers that are no character come out as U+FFFD, as HTML says.
fn numbered(raw: []const u8) ?Entity {
    const hex = raw.len > 2 and (raw[2] == 'x' or raw[2] == 'X');
    const start: usize = if (hex) 3 else 2;
    const end = if (hex) run(raw, start, std.ascii.isHex) else run(raw, start, std.ascii.isDigit);
    if (end == start) return null;
    const value = std.fmt.parseInt(u32, raw[start..end], if (hex) 16 else 10) catch 0;
    const length = end + @intFromBool(end < raw.len and raw[end] == ';');
    if (value >= 0x80 and value < 0xA0) return .{ .point = windows_1252[value - 0x80], .length = length };
    const valid = value != 0 and value <= 0x10FFFF and !(value >= 0xD800 and value < 0xE000);
    return .{ .point = if (valid) @intCast(value) else 0xFFFD, .length = length };
}

/// Where the characters of a kind that begin at `from` end.
fn run(raw: []const u8, from: usize, isKind: fn (u8) bool) usize {
    var end = from;
    while (end < raw.len and isKind(raw[end])) end += 1;
    return end;
}

/// What old pages mean by &#128; to &#159; (HTML, numeric character reference end state).
const windows_1252 = [32]u21{
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
    0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D, 0x017D, 0x008F,
    0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
    0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178,
};
