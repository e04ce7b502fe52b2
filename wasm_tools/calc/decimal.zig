//! Decimal digits in and out of a rational number.
//!
//! A number whose decimal expansion ends is written out whole. Another is rounded to 34
//! significant digits, half to even (what IEEE 754 calls decimal128's precision and its default
//! rounding), behind a `≈` that says so.
const std = @import("std");
const rational = @import("rational.zig");
const Int = std.math.big.int.Managed;
const Rational = rational.Rational;
const Work = rational.Work;
const Wrong = rational.Wrong;

const significant = 34;

/// A literal as found in the source: its digits, how many of them come after the point, its
/// power of ten.
pub const Literal = struct {
    length: usize,
    mantissa: []const u8,
    exponent: []const u8,
    negative: bool,
};

/// The literal that `source` begins with, null if there is no digit.
pub fn scan(source: []const u8) ?Literal {
    var at: usize = 0;
    var digits: usize = 0;
    var points: usize = 0;
    while (at < source.len) : (at += 1) switch (source[at]) {
        '0'...'9' => digits += 1,
        '.' => {
            points += 1;
            if (points > 1) return null;
        },
        '_' => if (digits == 0 or !digitAt(source, at + 1)) break,
        else => break,
    };
    if (digits == 0) return null;
    var found: Literal = .{
        .length = at,
        .mantissa = source[0..at],
        .exponent = "",
        .negative = false,
    };
    if (at == source.len or std.ascii.toLower(source[at]) != 'e') return found;
    var start = at + 1;
    if (start < source.len and (source[start] == '-' or source[start] == '+')) {
        found.negative = source[start] == '-';
        start += 1;
    }
    if (!digitAt(source, start)) return found;
    var end = start;
    while (digitAt(source, end)) end += 1;
    found.exponent = source[start..end];
    found.length = end;
    return found;
}

fn digitAt(source: []const u8, at: usize) bool {
    return at < source.len and std.ascii.isDigit(source[at]);
}

pub fn read(work: *Work, literal: Literal) Wrong!Rational {
    var digits: std.ArrayList(u8) = .empty;
    var after_point: usize = 0;
    var seen_point = false;
    for (literal.mantissa) |character| switch (character) {
        '.' => seen_point = true,
        '_' => {},
        else => {
            try digits.append(work.arena, character);
            after_point += @intFromBool(seen_point);
        },
    };
    try work.spend(digits.items.len, digits.items.len / 9);
    var over = try Int.init(work.arena);
    over.setString(10, digits.items) catch |wrong| return switch (wrong) {
        error.OutOfMemory => error.OutOfMemory,
        else => unreachable, // only digits came in
    };
    const power = std.fmt.parseInt(i64, literal.exponent, 10) catch
        if (literal.exponent.len == 0) 0 else return error.TooLarge;
    if (power > 2 * Work.max_digits) return error.TooLarge;
    const shift = (if (literal.negative) -power else power) - @as(i64, @intCast(after_point));
    const ten = try work.ten(@intCast(@abs(shift)));
    if (shift >= 0) return Rational.reduced(work, try work.multiply(over, ten), try work.int(1));
    return Rational.reduced(work, over, ten);
}

pub fn print(work: *Work, value: Rational) Wrong![]const u8 {
    const places = try fractionDigits(work, value.under) orelse return rounded(work, value);
    const scaled = try work.multiply(value.over, try work.ten(places));
    const whole = (try work.divide(scaled, value.under)).quotient;
    return point(work, whole, places);
}

/// How many digits the fraction has, null if it never ends (or has more than are kept).
fn fractionDigits(work: *Work, under: Int) Wrong!?u32 {
    const twos = trailingZeros(under);
    var rest = try Int.init(work.arena);
    try rest.shiftRight(&under, twos);
    var fives: u32 = 0;
    while (!rational.isOne(rest)) : (fives += 1) {
        const next = try work.divide(rest, try work.int(5));
        if (!next.remainder.eqlZero()) return null;
        rest = next.quotient;
    }
    const places = @max(twos, fives);
    return if (places > Work.max_digits) null else places;
}

fn trailingZeros(value: Int) u32 {
    var zeros: u32 = 0;
    for (value.limbs[0..value.len()]) |limb| {
        zeros += @ctz(limb);
        if (limb != 0) break;
    }
    return zeros;
}

/// `whole` with the point put `places` digits from the right.
fn point(work: *Work, whole: Int, places: u32) Wrong![]const u8 {
    const digits = try text(work, whole);
    var out: std.ArrayList(u8) = .empty;
    if (!whole.isPositive() and !whole.eqlZero()) try out.append(work.arena, '-');
    if (digits.len <= places) {
        try out.appendSlice(work.arena, "0.");
        try out.appendNTimes(work.arena, '0', places - digits.len);
        try out.appendSlice(work.arena, digits);
        return out.items;
    }
    try out.appendSlice(work.arena, digits[0 .. digits.len - places]);
    if (places > 0) {
        try out.append(work.arena, '.');
        try out.appendSlice(work.arena, digits[digits.len - places ..]);
    }
    return out.items;
}

/// The digits of a number without its sign.
fn text(work: *Work, value: Int) Wrong![]const u8 {
    try work.spend(value.len(), value.len());
    var positive = value;
    positive.abs();
    return positive.toString(work.arena, 10, .lower) catch |wrong| switch (wrong) {
        error.OutOfMemory => error.OutOfMemory,
        error.InvalidBase => unreachable,
    };
}

/// `≈` and 34 significant digits; in scientific form where plain digits would hide the size.
fn rounded(work: *Work, value: Rational) Wrong![]const u8 {
    var over = value.over;
    over.abs();
    var exponent = try firstDigit(work, over, value.under);
    var mantissa = try shifted(work, over, value.under, significant - 1 - exponent);
    var digits = try text(work, mantissa);
    if (digits.len > significant) { // 9.99… rounded up to 10.0…
        exponent += 1;
        mantissa = try shifted(work, over, value.under, significant - 1 - exponent);
        digits = try text(work, mantissa);
    }
    const sign: []const u8 = if (value.over.isPositive()) "≈" else "≈-";
    const trimmed = std.mem.trimEnd(u8, digits, "0");
    if (exponent < -7 or exponent >= significant) return scientific(work, sign, trimmed, exponent);
    const places: u32 = @intCast(significant - 1 - exponent);
    const plain = try point(work, mantissa, places);
    if (places == 0) return std.mem.concat(work.arena, u8, &.{ sign, plain });
    const kept = std.mem.trimEnd(u8, std.mem.trimEnd(u8, plain, "0"), ".");
    return std.mem.concat(work.arena, u8, &.{ sign, kept });
}

fn scientific(work: *Work, sign: []const u8, digits: []const u8, exponent: i32) Wrong![]const u8 {
    const dot: []const u8 = if (digits.len > 1) "." else "";
    return std.fmt.allocPrint(work.arena, "{s}{s}{s}{s}e{d}", .{
        sign, digits[0..1], dot, digits[1..], exponent,
    });
}

/// The power of ten of the first significant digit of over/under.
fn firstDigit(work: *Work, over: Int, under: Int) Wrong!i32 {
    const above: i32 = @intCast((try text(work, over)).len);
    const below: i32 = @intCast((try text(work, under)).len);
    const guess = above - below;
    const whole = try quotient(work, over, under, -guess);
    return if (whole.eqlZero()) guess - 1 else guess;
}

fn quotient(work: *Work, over: Int, under: Int, places: i32) Wrong!Int {
    const ten = try work.ten(@abs(places));
    if (places >= 0) return (try work.divide(try work.multiply(over, ten), under)).quotient;
    return (try work.divide(over, try work.multiply(under, ten))).quotient;
}

/// over/under * 10^places, rounded half to even.
fn shifted(work: *Work, over: Int, under: Int, places: i32) Wrong!Int {
    const ten = try work.ten(@abs(places));
    const top = if (places >= 0) try work.multiply(over, ten) else over;
    const bottom = if (places >= 0) under else try work.multiply(under, ten);
    const parts = try work.divide(top, bottom);
    const missing = try work.subtract(bottom, parts.remainder);
    const up = switch (parts.remainder.order(missing)) {
        .lt => false,
        .gt => true,
        .eq => parts.quotient.isOdd(),
    };
    return if (up) work.add(parts.quotient, try work.int(1)) else parts.quotient;
}
