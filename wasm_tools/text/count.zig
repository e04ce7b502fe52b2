//! Characters (Unicode code points), words (runs without white space) and lines of a text.
//!
//! White space is what Python's `str.split` cuts at; a line ends at "\n", and a last one without
//! it counts too.
const std = @import("std");
const guest = @import("guest");

pub fn count(call: *guest.Call) guest.Error!void {
    const text = try call.text("text");
    var characters: usize = 0;
    var words: usize = 0;
    var lines: usize = 0;
    var in_word = false;
    var iterator = std.unicode.Utf8View.initUnchecked(text).iterator();
    while (iterator.nextCodepoint()) |point| {
        characters += 1;
        lines += @intFromBool(point == '\n');
        const space = isSpace(point);
        words += @intFromBool(!space and !in_word);
        in_word = !space;
    }
    if (text.len > 0 and text[text.len - 1] != '\n') lines += 1;
    try call.answer(.{ .characters = characters, .words = words, .lines = lines });
}

pub fn isSpace(point: u21) bool {
    return switch (point) {
        '\t'...'\r', 0x1C...0x1F, ' ', 0x85, 0xA0, 0x1680 => true,
        0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 => true,
        else => false,
    };
}
