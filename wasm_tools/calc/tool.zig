//! Exact arithmetic: an expression to the rational number it is, and that to decimal digits.
//!
//! Grammar, loosest first (`^` is right-associative and binds tighter than a sign before it, so
//! that -2^2 is -4; `%` is the remainder with the sign of the divisor, as in Python):
//!
//!     sum     = product (("+" | "-") product)*
//!     product = signed (("*" | "/" | "%") signed)*
//!     signed  = ("+" | "-") signed | power
//!     power   = atom ("^" signed)?
//!     atom    = number | "(" sum ")"
const std = @import("std");
const guest = @import("guest");
const Rational = @import("rational.zig").Rational;
const Work = @import("rational.zig").Work;
const decimal = @import("decimal.zig");

pub const functions = .{ .calc = calc };

const max_nesting = 100;

fn calc(call: *guest.Call) guest.Error!void {
    var parser: Parser = .{
        .call = call,
        .source = try call.text("expression"),
        .work = .{ .arena = call.arena },
    };
    const value = parser.whole() catch |wrong| return parser.explain(wrong);
    const digits = decimal.print(&parser.work, value) catch |wrong| return parser.explain(wrong);
    try call.answer(.{ .value = digits });
}

const Wrong = guest.Error || @import("rational.zig").Wrong;

const Parser = struct {
    call: *guest.Call,
    source: []const u8,
    work: Work,
    at: usize = 0,
    nesting: usize = 0,

    fn whole(self: *Parser) Wrong!Rational {
        if (self.peek() == null) return self.call.fail("the expression is empty", .{});
        const value = try self.sum();
        if (self.peek() == null) return value;
        return self.unexpected();
    }

    fn explain(self: *Parser, wrong: Wrong) guest.Error {
        return switch (wrong) {
            error.DivisionByZero => self.call.fail("division by zero", .{}),
            error.TooLarge => self.call.fail(
                "the number is too large: at most {d} digits are kept",
                .{Work.max_digits},
            ),
            error.TooMuchWork => self.call.fail("the expression takes too long to calculate", .{}),
            error.FractionalExponent => self.call.fail("an exponent must be a whole number", .{}),
            error.Failed => error.Failed,
            error.OutOfMemory => error.OutOfMemory,
        };
    }

    fn unexpected(self: *Parser) guest.Error {
        const rest = self.source[self.at..];
        if (rest.len == 0) return self.call.fail("the expression ends too early", .{});
        const length = std.unicode.utf8ByteSequenceLength(rest[0]) catch 1;
        if (rest[0] == ',') return self.call.fail(
            "unexpected , at character {d}: write 1000 for 1,000 and 1.5 for 1,5",
            .{self.column()},
        );
        return self.call.fail("unexpected {s} at character {d}", .{
            rest[0..@min(length, rest.len)], self.column(),
        });
    }

    fn column(self: *const Parser) usize {
        return 1 + (std.unicode.utf8CountCodepoints(self.source[0..self.at]) catch self.at);
    }

    /// The next character that is not a space, with other spellings of the operators made plain.
    fn peek(self: *Parser) ?u8 {
        while (self.at < self.source.len) : (self.at += 1) {
            if (!std.ascii.isWhitespace(self.source[self.at])) break;
        } else return null;
        for (spellings) |spelling| {
            if (std.mem.startsWith(u8, self.source[self.at..], spelling.text)) return spelling.plain;
        }
        return self.source[self.at];
    }

    fn take(self: *Parser) void {
        for (spellings) |spelling| {
            if (std.mem.startsWith(u8, self.source[self.at..], spelling.text)) {
                self.at += spelling.text.len;
                return;
            }
        }
        self.at += 1;
    }

    fn deeper(self: *Parser) guest.Error!void {
        self.nesting += 1;
        if (self.nesting > max_nesting) return self.call.fail(
            "the expression is nested too deep: at most {d} levels",
            .{max_nesting},
        );
    }

    fn sum(self: *Parser) Wrong!Rational {
        var left = try self.product();
        while (self.peek()) |operator| switch (operator) {
            '+' => {
                self.take();
                left = try left.add(&self.work, try self.product());
            },
            '-' => {
                self.take();
                left = try left.add(&self.work, (try self.product()).negated());
            },
            else => break,
        };
        return left;
    }

    fn product(self: *Parser) Wrong!Rational {
        var left = try self.signed();
        while (self.peek()) |operator| switch (operator) {
            '*' => {
                self.take();
                left = try left.multiply(&self.work, try self.signed());
            },
            '/' => {
                self.take();
                left = try left.divide(&self.work, try self.signed());
            },
            '%' => {
                const sign = self.at;
                self.take();
                try self.notPercent(sign);
                left = try left.remainder(&self.work, try self.signed());
            },
            else => break,
        };
        return left;
    }

    /// A `%` with nothing to divide by is someone's percent sign; so it is where an addition or a
    /// subtraction seems to follow, as in `20% + 5` or `20%-5`, and not in `7 % -3`.
    fn notPercent(self: *Parser, sign: usize) guest.Error!void {
        const next = self.peek() orelse ')';
        const operand = self.at;
        defer self.at = operand;
        self.take();
        const is_percent = switch (next) {
            ')', '*', '/', '%', '^', '+' => true,
            '-' => !self.spaceAt(sign - 1) or self.spaceAt(self.at),
            else => false,
        };
        if (is_percent) return self.call.fail(
            "% is the remainder, as in 7 % 3 or 7 % (-3); for 20 percent write 20 / 100",
            .{},
        );
    }

    fn spaceAt(self: *const Parser, at: usize) bool {
        return at < self.source.len and std.ascii.isWhitespace(self.source[at]);
    }

    fn signed(self: *Parser) Wrong!Rational {
        try self.deeper();
        defer self.nesting -= 1;
        const next = self.peek() orelse return self.unexpected();
        if (next != '+' and next != '-') return self.power();
        self.take();
        const value = try self.signed();
        return if (next == '-') value.negated() else value;
    }

    fn power(self: *Parser) Wrong!Rational {
        const base = try self.atom();
        if (self.peek() != '^') return base;
        self.take();
        return base.power(&self.work, try self.signed());
    }

    fn atom(self: *Parser) Wrong!Rational {
        const next = self.peek() orelse return self.unexpected();
        if (next == '(') {
            self.take();
            const value = try self.sum();
            if (self.peek() != ')') return self.unexpected();
            self.take();
            return value;
        }
        if (std.ascii.isDigit(next) or next == '.') return self.number();
        return self.unexpected();
    }

    fn number(self: *Parser) Wrong!Rational {
        const found = decimal.scan(self.source[self.at..]) orelse return self.unexpected();
        const value = try decimal.read(&self.work, found);
        self.at += found.length;
        return value;
    }
};

const Spelling = struct { text: []const u8, plain: u8 };

/// `**` is before `*` in the source's own order: the longest spelling is tried first.
const spellings = [_]Spelling{
    .{ .text = "**", .plain = '^' },
    .{ .text = "×", .plain = '*' },
    .{ .text = "·", .plain = '*' },
    .{ .text = "÷", .plain = '/' },
    .{ .text = "−", .plain = '-' },
};
