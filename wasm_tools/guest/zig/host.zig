//! The capabilities of `tool.wit` as Zig functions. One that a tool does not use is not imported.
//!
//! The host answers in memory it asks `cabi_realloc` for, which lives as long as the call.

/// What a capability answered: text, or why not.
pub const Answer = union(enum) { ok: []const u8, err: []const u8 };

/// Where a text begins. Nothing may begin anywhere in Zig, and must be within memory for the host.
pub fn start(text: []const u8) [*]const u8 {
    return if (text.len == 0) "" else text.ptr;
}

const Result = extern struct {
    failed: u8,
    ptr: [*]const u8,
    len: usize,

    fn answer(area: *const Result) Answer {
        const text = area.ptr[0..area.len];
        return if (area.failed == 0) .{ .ok = text } else .{ .err = text };
    }
};

pub const workspace = struct {
    const module = "freehold:tool/workspace@1.0.0";
    const Written = extern struct {
        failed: u8,
        payload: extern union { bytes: u64, err: extern struct { ptr: [*]const u8, len: usize } },
    };
    const raw = struct {
        extern "freehold:tool/workspace@1.0.0" fn list([*]const u8, usize, *Result) void;
        extern "freehold:tool/workspace@1.0.0" fn read([*]const u8, usize, *Result) void;
        extern "freehold:tool/workspace@1.0.0" fn write([*]const u8, usize, [*]const u8, usize, *Written) void;
        extern "freehold:tool/workspace@1.0.0" fn remove([*]const u8, usize, *Result) void;
    };

    /// Names in a folder, folders with a trailing `/`, one a line.
    pub fn list(path: []const u8) Answer {
        var area: Result = undefined;
        raw.list(start(path), path.len, &area);
        return area.answer();
    }

    pub fn read(path: []const u8) Answer {
        var area: Result = undefined;
        raw.read(start(path), path.len, &area);
        return area.answer();
    }

    /// Bytes written, or why not.
    pub fn write(path: []const u8, content: []const u8) union(enum) { ok: u64, err: []const u8 } {
        var area: Written = undefined;
        raw.write(start(path), path.len, start(content), content.len, &area);
        if (area.failed == 0) return .{ .ok = area.payload.bytes };
        return .{ .err = area.payload.err.ptr[0..area.payload.err.len] };
    }

    pub fn remove(path: []const u8) Answer {
        var area: Result = undefined;
        raw.remove(start(path), path.len, &area);
        return area.answer();
    }
};

pub const http = struct {
    const raw = struct {
        extern "freehold:tool/http@1.0.0" fn fetch([*]const u8, usize, *Result) void;
    };

    /// `{"method","url",…}` to `{"status","headers","body","url"}`, both JSON.
    pub fn fetch(request: []const u8) Answer {
        var area: Result = undefined;
        raw.fetch(start(request), request.len, &area);
        return area.answer();
    }
};

pub const knowledge = struct {
    const raw = struct {
        extern "freehold:tool/knowledge@1.0.0" fn search([*]const u8, usize, u32, *Result) void;
    };

    /// `[{"source","text","score"}]` as JSON.
    pub fn search(query: []const u8, limit: u32) Answer {
        var area: Result = undefined;
        raw.search(start(query), query.len, limit, &area);
        return area.answer();
    }
};

pub const store = struct {
    const Found = extern struct {
        failed: u8,
        payload: extern union {
            option: extern struct { some: u8, ptr: [*]const u8, len: usize },
            err: extern struct { ptr: [*]const u8, len: usize },
        },
    };
    const raw = struct {
        extern "freehold:tool/store@1.0.0" fn get([*]const u8, usize, *Found) void;
        extern "freehold:tool/store@1.0.0" fn set([*]const u8, usize, [*]const u8, usize, *Result) void;
        extern "freehold:tool/store@1.0.0" fn delete([*]const u8, usize, *Result) void;
        extern "freehold:tool/store@1.0.0" fn keys(*Result) void;
    };

    /// The value, null where the key has none, or why it cannot be told.
    pub fn get(key: []const u8) union(enum) { ok: ?[]const u8, err: []const u8 } {
        var area: Found = undefined;
        raw.get(start(key), key.len, &area);
        if (area.failed != 0) return .{ .err = area.payload.err.ptr[0..area.payload.err.len] };
        if (area.payload.option.some == 0) return .{ .ok = null };
        return .{ .ok = area.payload.option.ptr[0..area.payload.option.len] };
    }

    pub fn set(key: []const u8, value: []const u8) Answer {
        var area: Result = undefined;
        raw.set(start(key), key.len, start(value), value.len, &area);
        return area.answer();
    }

    pub fn delete(key: []const u8) Answer {
        var area: Result = undefined;
        raw.delete(start(key), key.len, &area);
        return area.answer();
    }

    /// The keys, sorted, one a line.
    pub fn keys() Answer {
        var area: Result = undefined;
        raw.keys(&area);
        return area.answer();
    }
};

pub const clock = struct {
    const raw = struct {
        extern "freehold:tool/clock@1.0.0" fn now() u64;
    };

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn now() u64 {
        return raw.now();
    }
};

pub const random = struct {
    const raw = struct {
        extern "freehold:tool/random@1.0.0" fn bits() u64;
    };

    /// Sixty-four unpredictable bits.
    pub fn bits() u64 {
        return raw.bits();
    }
};
