//! Sets of characters, and what counts as a word character or a space.
const std = @import("std");
const isSpace = @import("../count.zig").isSpace;

pub const Kind = enum { digit, space, word };

pub const Item = union(enum) {
    range: struct { low: u21, high: u21 },
    kind: struct { of: Kind, negated: bool = false },

    fn has(self: Item, point: u21) bool {
        return switch (self) {
            .range => |range| range.low <= point and point <= range.high,
            .kind => |kind| kind.negated != switch (kind.of) {
                .digit => point >= '0' and point <= '9',
                .space => isSpace(point),
                .word => isWord(point),
            },
        };
    }
};

pub const Set = struct {
    items: []const Item,
    negated: bool = false,
    ignore_case: bool = false,
    /// The answers for ASCII, filled in by `prepared`.
    ascii: u128 = 0,

    /// The set with its table for ASCII, without which `has` may not be asked.
    pub fn prepared(self: Set, ignore_case: bool) Set {
        var out = self;
        out.ignore_case = ignore_case;
        for (0..128) |point| {
            if (out.search(@intCast(point))) out.ascii |= @as(u128, 1) << @intCast(point);
        }
        return out;
    }

    pub fn has(self: *const Set, point: u21) bool {
        if (point >= 0x80) return self.search(point);
        return self.ascii >> @intCast(point) & 1 == 1;
    }

    fn search(self: *const Set, point: u21) bool {
        return self.negated != (self.any(point) or (self.ignore_case and self.inOtherCase(point)));
    }

    /// A final sigma is the small letter of the same capital.
    fn inOtherCase(self: *const Set, point: u21) bool {
        const sigma = point == 0x3A3 or point == 0x3C3;
        return self.any(lower(point)) or self.any(upper(point)) or (sigma and self.any(0x3C2));
    }

    fn any(self: *const Set, point: u21) bool {
        for (self.items) |item| if (item.has(point)) return true;
        return false;
    }

    /// The one byte that all matches begin with, if there is one.
    pub fn byte(self: Set) ?u8 {
        if (self.negated or self.ignore_case or self.items.len != 1) return null;
        const range = if (self.items[0] == .range) self.items[0].range else return null;
        return if (range.low == range.high and range.low < 0x80) @intCast(range.low) else null;
    }
};

pub const anything: Set = .{ .items = &.{.{ .range = .{ .low = 0, .high = 0x10FFFF } }} };
pub const not_newline: Set = .{ .items = &.{.{ .range = .{ .low = '\n', .high = '\n' } }}, .negated = true };

/// ASCII letters, digits and `_`; beyond ASCII all but spaces, the blocks of punctuation, symbols,
/// pictographs and private use, and the punctuation of alphabets that are widely written. A short
/// list instead of Unicode's tables; marks go with their letters.
pub fn isWord(point: u21) bool {
    if (point < 0x80) return std.ascii.isAlphanumeric(@intCast(point)) or point == '_';
    return switch (point) {
        0x80...0xA9, 0xAB...0xB1, 0xB4, 0xB6...0xB8, 0xBB, 0xBF, 0xD7, 0xF7 => false,
        0x37E, 0x387, 0x55A...0x55F, 0x589...0x58F, 0x5BE, 0x5C0, 0x5C3, 0x5F3...0x60F => false,
        0x61B...0x61F, 0x66A...0x66D, 0x6D4, 0x964, 0x965, 0x970, 0x9F2, 0x9F3, 0xAF1 => false,
        0xBF9, 0xDF4, 0xE3F, 0xE4F, 0xE5A, 0xE5B, 0xF01...0xF17, 0x104A...0x104F => false,
        0x10FB, 0x1360...0x1368, 0x17D4...0x17D6, 0x17D8...0x17DB, 0x1800...0x180A => false,
        0x1680, 0x2000...0x206F, 0x207A...0x207E, 0x208A...0x208E, 0x20A0...0x20CF => false,
        0x2103, 0x2109, 0x2116...0x2118, 0x211E...0x2123, 0x2190...0x2BFF => false,
        0x2E00...0x2E2E, 0x2E30...0x2FFB, 0x3000...0x3004, 0x3008...0x3020, 0x3030 => false,
        0x303D...0x303F, 0x309B, 0x309C, 0x30A0, 0x30FB, 0xE000...0xF8FF, 0xFD3E, 0xFD3F => false,
        0xFDFC, 0xFE10...0xFE19, 0xFE30...0xFE6B, 0xFEFF, 0xFFE0...0xFFFD => false,
        0xFF01...0xFF0F, 0xFF1A...0xFF20, 0xFF3B...0xFF40, 0xFF5B...0xFF65 => false,
        0x1F000...0x1FAFF, 0xF0000...0x10FFFF => false,
        else => true,
    };
}

/// Case of the Latin, Greek (without the polytonic), Cyrillic and Armenian letters, one for one.
fn lower(point: u21) u21 {
    if (firstOfPair(point)) |parity| return if (point % 2 == parity) point + 1 else point;
    return switch (point) {
        'A'...'Z', 0xC0...0xD6, 0xD8...0xDE, 0x391...0x3A1, 0x3A3...0x3AB, 0x410...0x42F, 0xFF21...0xFF3A => point + 32,
        0x400...0x40F => point + 80,
        0x531...0x556 => point + 48,
        0x388...0x38A => point + 37,
        0x38E, 0x38F => point + 63,
        0x4C0 => 0x4CF,
        0x3C2 => 0x3C3,
        0x386 => 0x3AC,
        0x38C => 0x3CC,
        0x178 => 0xFF,
        0x1E9E => 0xDF,
        else => point,
    };
}

fn upper(point: u21) u21 {
    if (firstOfPair(point)) |parity| return if (point % 2 == parity) point else point - 1;
    return switch (point) {
        'a'...'z', 0xE0...0xF6, 0xF8...0xFE, 0x3B1...0x3C1, 0x3C3...0x3CB, 0x430...0x44F, 0xFF41...0xFF5A => point - 32,
        0x450...0x45F => point - 80,
        0x561...0x586 => point - 48,
        0x3AD...0x3AF => point - 37,
        0x3CD, 0x3CE => point - 63,
        0x4CF => 0x4C0,
        0x3C2 => 0x3A3,
        0x3AC => 0x386,
        0x3CC => 0x38C,
        0xFF => 0x178,
        0xDF => 0x1E9E,
        else => point,
    };
}

/// Whether the capitals are even or odd, where a capital and its small letter stand in turn.
fn firstOfPair(point: u21) ?u21 {
    return switch (point) {
        0x100...0x12F, 0x132...0x137, 0x14A...0x177, 0x1A0...0x1A5, 0x1DE...0x1EF => 0,
        0x1F8...0x21F, 0x222...0x233, 0x3D8...0x3EF, 0x460...0x481, 0x48A...0x4BF => 0,
        0x4D0...0x52F, 0x1E00...0x1E95, 0x1EA0...0x1EFF => 0,
        0x139...0x148, 0x179...0x17E, 0x1AF...0x1B0, 0x1CD...0x1DC, 0x4C1...0x4CE => 1,
        else => null,
    };
}
