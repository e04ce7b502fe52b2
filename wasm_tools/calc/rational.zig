//! Rational numbers in lowest terms over `std.math.big`, within a fixed size and amount of work.
//!
//! Work is counted in products of limbs, what schoolbook multiplication, division and the
//! greatest common divisor cost; so a hostile expression ends in an error after about a second at
//! most, the same on every machine.
const std = @import("std");
const Int = std.math.big.int.Managed;

pub const Wrong = error{ OutOfMemory, DivisionByZero, TooLarge, TooMuchWork, FractionalExponent };

/// Where numbers live, and what may still be spent on them. No number is changed once it is made,
/// so that one may be handed on where an operation would copy it.
pub const Work = struct {
    pub const max_digits = 5_000;
    /// What 10^5000 has.
    const max_bits = 16_610;
    const allowance = 120_000_000;

    arena: std.mem.Allocator,
    left: usize = allowance,

    /// Books the work of an operation on numbers of `a` and `b` limbs.
    pub fn spend(self: *Work, a: usize, b: usize) Wrong!void {
        const cost = (a + 1) * (b + 1);
        if (cost > self.left) return error.TooMuchWork;
        self.left -= cost;
    }

    pub fn int(self: *Work, value: anytype) Wrong!Int {
        return Int.initSet(self.arena, value);
    }

    fn checked(value: Int) Wrong!Int {
        if (value.bitCountAbs() > max_bits) return error.TooLarge;
        return value;
    }

    pub fn add(self: *Work, a: Int, b: Int) Wrong!Int {
        try self.spend(a.len() + b.len(), 0);
        var out = try Int.init(self.arena);
        try out.add(&a, &b);
        return checked(out);
    }

    pub fn subtract(self: *Work, a: Int, b: Int) Wrong!Int {
        var negative = b;
        negative.negate();
        return self.add(a, negative);
    }

    pub fn multiply(self: *Work, a: Int, b: Int) Wrong!Int {
        try self.spend(a.len(), b.len());
        if (isOne(b)) return a;
        if (isOne(a)) return b;
        var out = try Int.init(self.arena);
        try out.mul(&a, &b);
        return out;
    }

    /// Quotient and remainder, rounding down.
    pub fn divide(self: *Work, a: Int, b: Int) Wrong!struct { quotient: Int, remainder: Int } {
        try self.spend(a.len(), b.len());
        if (isOne(b)) return .{ .quotient = a, .remainder = try self.int(0) };
        var quotient = try Int.init(self.arena);
        var remainder = try Int.init(self.arena);
        try quotient.divFloor(&remainder, &a, &b);
        return .{ .quotient = quotient, .remainder = remainder };
    }

    /// For 0, 1 and -1 only whether the exponent is zero, odd or even matters.
    pub fn power(self: *Work, base: Int, exponent: u32) Wrong!Int {
        const bits = base.bitCountAbs();
        if (bits <= 1 and exponent > 2) return self.power(base, 2 - exponent % 2);
        if (exponent > max_bits or (bits -| 1) * exponent > max_bits) return error.TooLarge;
        const limbs = bits * exponent / @bitSizeOf(usize);
        try self.spend(limbs, limbs);
        var out = try Int.init(self.arena);
        try out.pow(&base, exponent);
        return checked(out);
    }

    /// A power of ten to move the point by, at most a few times `max_digits`.
    pub fn ten(self: *Work, exponent: u32) Wrong!Int {
        try self.spend(exponent / 9, exponent / 9);
        if (exponent == 0) return self.int(1);
        var out = try self.int(10);
        try out.pow(&out, exponent);
        return out;
    }

    fn gcd(self: *Work, a: Int, b: Int) Wrong!Int {
        // Lehmer's algorithm passes over both numbers some forty times a limb (measured).
        try self.spend(40 * @min(a.len(), b.len()), @max(a.len(), b.len()));
        if (small(a)) |x| if (small(b)) |y| return self.int(std.math.gcd(x, y));
        var out = try Int.init(self.arena);
        try out.gcd(&a, &b);
        return out;
    }
};

/// A number as numerator over denominator; the denominator is positive, and zero has no sign.
pub const Rational = struct {
    over: Int,
    under: Int,

    /// In lowest terms, with the sign above.
    pub fn reduced(work: *Work, over: Int, under: Int) Wrong!Rational {
        if (under.eqlZero()) return error.DivisionByZero;
        if (over.eqlZero()) return .{ .over = try work.int(0), .under = try work.int(1) };
        var value: Rational = .{ .over = over, .under = under };
        if (!under.isPositive()) {
            value.over.negate();
            value.under.negate();
        }
        const common = if (isOne(value.under)) value.under else try work.gcd(over, under);
        if (!isOne(common)) {
            value.over = (try work.divide(value.over, common)).quotient;
            value.under = (try work.divide(value.under, common)).quotient;
        }
        if (@max(value.over.bitCountAbs(), value.under.bitCountAbs()) > Work.max_bits) {
            return error.TooLarge;
        }
        return value;
    }

    pub fn negated(self: Rational) Rational {
        var out = self;
        if (!out.over.eqlZero()) out.over.negate();
        return out;
    }

    pub fn add(self: Rational, work: *Work, other: Rational) Wrong!Rational {
        const left = try work.multiply(self.over, other.under);
        const right = try work.multiply(other.over, self.under);
        const over = try work.add(left, right);
        return reduced(work, over, try work.multiply(self.under, other.under));
    }

    pub fn multiply(self: Rational, work: *Work, other: Rational) Wrong!Rational {
        const over = try work.multiply(self.over, other.over);
        return reduced(work, over, try work.multiply(self.under, other.under));
    }

    pub fn divide(self: Rational, work: *Work, other: Rational) Wrong!Rational {
        const over = try work.multiply(self.over, other.under);
        return reduced(work, over, try work.multiply(self.under, other.over));
    }

    /// self - other * floor(self / other): it has the sign of `other`.
    pub fn remainder(self: Rational, work: *Work, other: Rational) Wrong!Rational {
        if (other.over.eqlZero()) return error.DivisionByZero;
        const left = try work.multiply(self.over, other.under);
        const right = try work.multiply(other.over, self.under);
        const rest = (try work.divide(left, right)).remainder;
        return reduced(work, rest, try work.multiply(self.under, other.under));
    }

    pub fn power(self: Rational, work: *Work, exponent: Rational) Wrong!Rational {
        if (!isOne(exponent.under)) return error.FractionalExponent;
        const negative = !exponent.over.isPositive();
        if (negative and self.over.eqlZero()) return error.DivisionByZero;
        const count = try self.times(exponent.over);
        const over = try work.power(self.over, count);
        const under = try work.power(self.under, count);
        return if (negative) reduced(work, under, over) else .{ .over = over, .under = under };
    }

    /// The exponent's size; for 0, 1 and -1 only whether it is zero, odd or even matters.
    fn times(self: Rational, exponent: Int) Wrong!u32 {
        const trivial = isOne(self.under) and self.over.bitCountAbs() <= 1;
        if (trivial and !exponent.eqlZero()) return if (exponent.isOdd()) 1 else 2;
        if (exponent.bitCountAbs() > 31) return error.TooLarge;
        return @intCast(@abs(exponent.toInt(i32) catch return error.TooLarge));
    }
};

/// The size of a number of one limb.
fn small(value: Int) ?u64 {
    return if (value.len() == 1) value.limbs[0] else null;
}

pub fn isOne(value: Int) bool {
    return value.len() == 1 and value.limbs[0] == 1 and value.isPositive();
}
