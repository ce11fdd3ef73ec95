//! A thin layer over Lua's C interface (Lua 5.1 reference manual, chapter 3).
//!
//! Lua signals errors by jumping over the frames of its callers. Two rules make
//! that harmless for Rust frames:
//!
//! - While Rust code works on a state, its memory is *shielded*: the allocator
//!   refuses nothing, so that no call made here can fail for want of memory.
//!   Natives use only functions of the interface that raise no other error:
//!   raw accesses, pushes, type tests.
//! - A native raises an error by returning [`Raise`]; the jump starts from
//!   [`trampoline`], whose frame has nothing to be dropped.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use mlua_sys as ffi;

use super::context::Context;

/// A function for scripts: it finds its arguments on the stack and leaves its
/// results on top; their number.
pub type Native = fn(Stack, &Context) -> Result<c_int, Raise>;

/// The value on top of the stack is to be raised as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise;

/// Types of Lua values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    None,
    Nil,
    Boolean,
    Pointer,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

/// How a call of Lua code ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// The error is on top of the stack.
    Failed,
}

/// The memory of a state: what it uses, and how much it may.
#[derive(Default)]
pub struct Memory {
    pub used: Cell<usize>,
    pub limit: Cell<usize>,
    /// Rust code is at work: nothing is refused.
    shielded: Cell<bool>,
}

impl Memory {
    /// Shields the memory, or not; what it was.
    pub fn shield(&self, on: bool) -> bool {
        self.shielded.replace(on)
    }
}

/// Alignment of Lua's blocks: that of its widest basic type.
const ALIGN: usize = 8;

/// The allocator of a state; `ud` is its [`Context`].
///
/// # Safety
/// To be called by Lua only, which keeps track of blocks and their sizes.
unsafe extern "C" fn allocate(ud: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    use std::alloc::{Layout, alloc, dealloc, realloc};
    // SAFETY: the context outlives its state.
    let memory = unsafe { &(*ud.cast::<Context>()).memory };
    let old = if block.is_null() { 0 } else { old };
    let used = memory.used.get() - old;
    if new > old && !memory.shielded.get() && used.saturating_add(new) > memory.limit.get() {
        return std::ptr::null_mut();
    }
    let Ok(layout) = Layout::from_size_align(new.max(1), ALIGN) else { return std::ptr::null_mut() };
    // SAFETY: a block was made here with its old size and the same alignment.
    let made = unsafe {
        let was = Layout::from_size_align_unchecked(old.max(1), ALIGN);
        match (block.is_null(), new) {
            (true, 0) => return std::ptr::null_mut(),
            (false, 0) => {
                dealloc(block.cast(), was);
                memory.used.set(used);
                return std::ptr::null_mut();
            }
            (true, _) => alloc(layout),
            (false, _) => realloc(block.cast(), was, new),
        }
    };
    if !made.is_null() {
        memory.used.set(used + new);
    }
    made.cast()
}

/// Calls the native that is the closure's second upvalue.
///
/// # Safety
/// To be called by Lua only, as a closure made by [`Stack::native`].
unsafe extern "C-unwind" fn trampoline(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: `Stack::native` put a context and a `Native` into the upvalues,
    // and the context outlives the state. Nothing in this frame has to be
    // dropped when the error is raised.
    unsafe {
        let cx = &*ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)).cast::<Context>();
        let native: Native = std::mem::transmute(ffi::lua_touserdata(l, ffi::lua_upvalueindex(2)));
        let was = cx.memory.shield(true);
        let result = native(Stack(l), cx);
        cx.memory.shield(was);
        match result {
            Ok(n) => n,
            Err(Raise) => ffi::lua_error(l),
        }
    }
}

/// Values that `unpack` gives at most: what the stack of a C function holds.
const UNPACK_MAX: i64 = 8000;

/// The function `unpack` on tables, with the bounds of Lua 5.1: whatever no
/// `int` holds is cut off as the machine does. It computes lengths in an
/// integer that may overflow.
///
/// # Safety
/// As for [`guarded`].
unsafe extern "C-unwind" fn unpack(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: as in `guarded`.
    unsafe {
        let s = Stack(l);
        let odd = |i: c_int| s.top() >= i && s.kind(i) != Type::Nil && s.number(i).is_none();
        if s.kind(1) != Type::Table || odd(2) || odd(3) {
            // It says what is wrong.
            let f: ffi::lua_CFunction = std::mem::transmute(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)));
            return f(l);
        }
        let bound = |i: c_int| s.number(i).map(|n| to_integer(n) as c_int);
        let first = bound(2).unwrap_or(1);
        let last = bound(3).unwrap_or_else(|| s.raw_len(1) as c_int);
        let count = i64::from(last) - i64::from(first) + 1;
        if count <= 0 {
            return 0;
        }
        if count > UNPACK_MAX || !s.reserve(count as c_int) {
            ffi::luaL_where(l, 1);
            s.push(b"too many results to unpack");
            ffi::lua_concat(l, 2);
            ffi::lua_error(l);
        }
        (first..=last).for_each(|i| s.raw_index(1, i as usize));
        count as c_int
    }
}

/// Bytes of a pattern at most: matching takes a C stack frame for each item.
const PATTERN_MAX: usize = 8192;

/// Calls a C function of the string library, unless its pattern is so long
/// that matching could overflow the thread's stack.
///
/// # Safety
/// As for [`guarded`].
unsafe extern "C-unwind" fn matching(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: as in `guarded`.
    unsafe {
        if Stack(l).bytes(2).is_some_and(|p| p.len() > PATTERN_MAX) {
            ffi::luaL_where(l, 1);
            Stack(l).push(b"pattern too complex");
            ffi::lua_concat(l, 2);
            ffi::lua_error(l);
        }
        let f: ffi::lua_CFunction = std::mem::transmute(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)));
        f(l)
    }
}

/// What a guarded function does with a frozen table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// It works on what the table shows.
    Shown,
    Refused,
    /// It is `unpack`.
    Unpacked,
    /// It matches patterns.
    Matching,
}

/// Calls the C function of Lua's own library that is the closure's upvalue
/// with what its first argument shows, if that is a frozen table.
///
/// # Safety
/// To be called by Lua only, as a closure made by [`Stack::guard`].
unsafe extern "C-unwind" fn seeing_through(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: as in `guarded`.
    unsafe {
        Stack(l).thaw(1);
        let f: ffi::lua_CFunction = std::mem::transmute(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)));
        f(l)
    }
}

/// Calls the C function of Lua's own library that is the closure's upvalue,
/// unless its first argument is a table that must not be changed.
///
/// # Safety
/// To be called by Lua only, as a closure made by [`Stack::guard`].
unsafe extern "C-unwind" fn guarded(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: the upvalue is a C function; nothing in this frame has to be
    // dropped when it raises an error.
    unsafe {
        if Stack(l).is_frozen(1) {
            Stack(l).push(super::sandbox::READONLY);
            ffi::lua_error(l);
        }
        let f: ffi::lua_CFunction = std::mem::transmute(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)));
        f(l)
    }
}

/// Instructions between two calls of the hook. Each may call a function of the
/// library that takes milliseconds, so a script is looked at often.
const HOOK_EVERY: c_int = 2000;

/// Interrupts running code: the context's host looks whether it may go on.
///
/// # Safety
/// To be called by Lua only, in a state made by [`Stack::open`].
unsafe extern "C-unwind" fn hook(l: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: the allocator's data of such a state is its context. Nothing in
    // this frame has to be dropped when the error is raised.
    unsafe {
        let mut ud = std::ptr::null_mut();
        ffi::lua_getallocf(l, &raw mut ud);
        let cx = &*ud.cast::<Context>();
        let was = cx.memory.shield(true);
        let stop = cx.interrupted(Stack(l));
        cx.memory.shield(was);
        if stop {
            ffi::lua_error(l);
        }
    }
}

/// A number as C functions of Lua take it for an integer: without its fraction,
/// and what has no such integer is the smallest, as the processor has it that
/// Redis usually runs on.
pub fn to_integer(n: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&n) { n as i64 } else { i64::MIN }
}

/// The stack of a state, or of one of its threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stack(*mut ffi::lua_State);

macro_rules! call {
    ($self:ident . $f:ident ( $($a:expr),* )) => {
        // SAFETY: the state is open while anyone has its stack; indices name
        // places that the caller has filled, and functions that may raise an
        // error are not called by this macro.
        unsafe { ffi::$f($self.0 $(, $a)*) }
    };
}

impl Stack {
    /// Opens a state whose context stays at this address until it is closed.
    pub fn open(context: *const Context) -> Option<Stack> {
        // SAFETY: the allocator keeps Lua's contract.
        let l = unsafe { ffi::lua_newstate(allocate, context.cast_mut().cast()) };
        if l.is_null() {
            return None;
        }
        let s = Stack(l);
        s.watch(HOOK_EVERY);
        Some(s)
    }

    /// Closes the state.
    ///
    /// # Safety
    /// Nobody may use the state's stacks any more.
    pub unsafe fn close(self) {
        // SAFETY: the caller's promise.
        unsafe { ffi::lua_close(self.0) };
    }

    fn watch(self, every: c_int) {
        call!(self.lua_sethook(Some(hook), ffi::LUA_MASKCOUNT, every));
    }

    /// The hook is called at every instruction from now on, or as usual.
    pub fn watch_closely(self, closely: bool) {
        self.watch(if closely { 1 } else { HOOK_EVERY });
    }

    /// Opens one of Lua's libraries.
    pub fn open_library(self, open: unsafe extern "C-unwind" fn(*mut ffi::lua_State) -> c_int) {
        call!(self.lua_pushcclosure(open, 0));
        // SAFETY: opening a library raises no error but for want of memory,
        // and the memory is shielded.
        unsafe { ffi::lua_call(self.0, 0, 0) };
    }

    pub fn top(self) -> c_int {
        call!(self.lua_gettop())
    }

    pub fn set_top(self, n: c_int) {
        call!(self.lua_settop(n));
    }

    pub fn pop(self, n: c_int) {
        self.set_top(-n - 1);
    }

    /// Makes room for so many more values; false when there is none.
    pub fn reserve(self, n: c_int) -> bool {
        call!(self.lua_checkstack(n)) != 0
    }

    pub fn copy(self, index: c_int) {
        call!(self.lua_pushvalue(index));
    }

    pub fn insert(self, index: c_int) {
        call!(self.lua_insert(index));
    }

    pub fn remove(self, index: c_int) {
        call!(self.lua_remove(index));
    }

    pub fn replace(self, index: c_int) {
        call!(self.lua_replace(index));
    }

    pub fn kind(self, index: c_int) -> Type {
        match call!(self.lua_type(index)) {
            ffi::LUA_TNIL => Type::Nil,
            ffi::LUA_TBOOLEAN => Type::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Type::Pointer,
            ffi::LUA_TNUMBER => Type::Number,
            ffi::LUA_TSTRING => Type::String,
            ffi::LUA_TTABLE => Type::Table,
            ffi::LUA_TFUNCTION => Type::Function,
            ffi::LUA_TUSERDATA => Type::Userdata,
            ffi::LUA_TTHREAD => Type::Thread,
            _ => Type::None,
        }
    }

    /// The type's name, as Lua's own messages have it.
    pub fn kind_name(self, index: c_int) -> &'static str {
        match self.kind(index) {
            Type::None => "no value",
            Type::Nil => "nil",
            Type::Boolean => "boolean",
            Type::Pointer | Type::Userdata => "userdata",
            Type::Number => "number",
            Type::String => "string",
            Type::Table => "table",
            Type::Function => "function",
            Type::Thread => "thread",
        }
    }

    pub fn truthy(self, index: c_int) -> bool {
        call!(self.lua_toboolean(index)) != 0
    }

    /// A number, or a string that reads as one.
    pub fn number(self, index: c_int) -> Option<f64> {
        (call!(self.lua_isnumber(index)) != 0).then(|| call!(self.lua_tonumber(index)))
    }

    /// The bytes of a string, for as long as the value stays on the stack or
    /// in a table.
    pub fn bytes<'a>(self, index: c_int) -> Option<&'a [u8]> {
        if self.kind(index) != Type::String {
            return None;
        }
        let mut len = 0;
        let p = call!(self.lua_tolstring(index, &raw mut len));
        // SAFETY: Lua's strings never change or move, and live while they are
        // reachable; callers keep them so while they use the bytes.
        Some(unsafe { std::slice::from_raw_parts(p.cast(), len) })
    }

    /// A string, or a number written as Lua writes it; turns the value on the
    /// stack into a string.
    pub fn text<'a>(self, index: c_int) -> Option<&'a [u8]> {
        if !matches!(self.kind(index), Type::String | Type::Number) {
            return None;
        }
        let mut len = 0;
        let p = call!(self.lua_tolstring(index, &raw mut len));
        // SAFETY: as in `bytes`.
        Some(unsafe { std::slice::from_raw_parts(p.cast(), len) })
    }

    pub fn pointer(self, index: c_int) -> *mut c_void {
        call!(self.lua_touserdata(index))
    }

    pub fn push_nil(self) {
        call!(self.lua_pushnil());
    }

    pub fn push_bool(self, v: bool) {
        call!(self.lua_pushboolean(c_int::from(v)));
    }

    pub fn push_number(self, v: f64) {
        call!(self.lua_pushnumber(v));
    }

    pub fn push(self, text: &[u8]) {
        call!(self.lua_pushlstring(text.as_ptr().cast(), text.len()));
    }

    pub fn push_pointer(self, p: *mut c_void) {
        call!(self.lua_pushlightuserdata(p));
    }

    /// Pushes a new table with room for elements and for fields.
    pub fn push_table(self, elements: usize, fields: usize) {
        let clip = |n: usize| n.min(1 << 20) as c_int;
        call!(self.lua_createtable(clip(elements), clip(fields)));
    }

    /// Pushes a native with the values on top of the stack as upvalues, from
    /// [`Stack::upvalue`] 0 on.
    pub fn native_with(self, cx: &Context, native: Native, upvalues: c_int) {
        self.push_pointer(std::ptr::from_ref(cx).cast_mut().cast());
        self.insert(-upvalues - 1);
        self.push_pointer(native as *mut c_void);
        self.insert(-upvalues - 1);
        call!(self.lua_pushcclosure(trampoline, upvalues + 2));
    }

    /// Pushes a native.
    pub fn native(self, cx: &Context, native: Native) {
        self.push_pointer(std::ptr::from_ref(cx).cast_mut().cast());
        self.push_pointer(native as *mut c_void);
        call!(self.lua_pushcclosure(trampoline, 2));
    }

    /// Replaces the C function on top of the stack by one that knows frozen
    /// tables. Only for functions without upvalues.
    pub fn guard(self, frozen: Frozen) {
        let f = call!(self.lua_tocfunction(-1)).map_or(std::ptr::null_mut(), |f| f as *mut c_void);
        self.pop(1);
        self.push_pointer(f);
        let f = match frozen {
            Frozen::Shown => seeing_through,
            Frozen::Refused => guarded,
            Frozen::Unpacked => unpack,
            Frozen::Matching => matching,
        };
        call!(self.lua_pushcclosure(f, 1));
    }

    /// Index of a running native's own upvalue.
    pub fn upvalue(n: c_int) -> c_int {
        ffi::lua_upvalueindex(3 + n)
    }

    /// Pushes plain memory, in which there is one `T`.
    pub fn push_userdata<T: Copy>(self, value: T) {
        const { assert!(align_of::<T>() <= ALIGN) };
        let p = call!(self.lua_newuserdata(size_of::<T>()));
        // SAFETY: Lua has given so many bytes, aligned for its widest type.
        unsafe { p.cast::<T>().write(value) };
    }

    /// The field of a table, without metamethods; the key is on top and is
    /// replaced by the value.
    pub fn raw_get(self, table: c_int) {
        call!(self.lua_rawget(table));
    }

    /// Pushes an element of a table.
    pub fn raw_index(self, table: c_int, n: usize) {
        call!(self.lua_rawgeti(table, n as _));
    }

    /// Pushes a field of a table, without metamethods; its type.
    pub fn field(self, table: c_int, name: &[u8]) -> Type {
        let table = self.absolute(table);
        self.push(name);
        self.raw_get(table);
        self.kind(-1)
    }

    /// Sets a field to the value on top, and pops it.
    pub fn set_field(self, table: c_int, name: &[u8]) {
        let table = self.absolute(table);
        self.push(name);
        self.insert(-2);
        self.raw_set(table);
    }

    /// Sets the field named by the value below the top to the value on top;
    /// pops both. The name is neither nil nor not-a-number.
    pub fn raw_set(self, table: c_int) {
        call!(self.lua_rawset(table));
    }

    /// Sets an element to the value on top, and pops it.
    pub fn set_index(self, table: c_int, n: usize) {
        call!(self.lua_rawseti(table, n as _));
    }

    /// An index that stays right when the stack grows.
    pub fn absolute(self, index: c_int) -> c_int {
        if index > 0 || index <= ffi::LUA_REGISTRYINDEX { index } else { self.top() + index + 1 }
    }

    /// Length of a string, or border of a table, without metamethods.
    pub fn raw_len(self, index: c_int) -> usize {
        call!(self.lua_objlen(index))
    }

    /// Replaces the key on top by the next key and its value; false, with
    /// nothing pushed, at the end. The key must be one of the table's.
    pub fn next(self, table: c_int) -> bool {
        call!(self.lua_next(table)) != 0
    }

    /// Pushes the metatable, if there is one.
    pub fn metatable(self, index: c_int) -> bool {
        call!(self.lua_getmetatable(index)) != 0
    }

    /// Makes the table on top the metatable of the value at `index`.
    pub fn set_metatable(self, index: c_int) {
        call!(self.lua_setmetatable(index));
    }

    /// Makes the table on top the table of globals.
    pub fn set_globals(self) {
        self.replace(ffi::LUA_GLOBALSINDEX);
    }

    pub fn push_globals(self) {
        self.copy(ffi::LUA_GLOBALSINDEX);
    }

    /// Keeps the value on top, and pops it.
    pub fn keep(self) -> c_int {
        call!(self.luaL_ref(ffi::LUA_REGISTRYINDEX))
    }

    pub fn push_kept(self, kept: c_int) {
        call!(self.lua_rawgeti(ffi::LUA_REGISTRYINDEX, kept as _));
    }

    pub fn forget(self, kept: c_int) {
        call!(self.luaL_unref(ffi::LUA_REGISTRYINDEX, kept));
    }

    /// Compiles source text; pushes the function, or the error.
    pub fn compile(self, cx: &Context, source: &[u8], name: &std::ffi::CStr) -> Status {
        let was = cx.memory.shield(false);
        // SAFETY: `lua_load` catches errors itself. No garbage is collected
        // meanwhile: the parser of Lua 5.1 holds names that nothing else does.
        let status = unsafe {
            ffi::lua_gc(self.0, ffi::LUA_GCSTOP, 0);
            let status = ffi::luaL_loadbuffer(self.0, source.as_ptr().cast(), source.len(), name.as_ptr());
            ffi::lua_gc(self.0, ffi::LUA_GCRESTART, 0);
            status
        };
        cx.memory.shield(was);
        if status == 0 { Status::Ok } else { Status::Failed }
    }

    /// Calls the function below its arguments; `handler` is the index of what
    /// is called with an error before the stack is unwound, or 0.
    pub fn call(self, cx: &Context, arguments: c_int, results: c_int, handler: c_int) -> Status {
        let was = cx.memory.shield(false);
        // SAFETY: errors end here.
        let status = unsafe { ffi::lua_pcall(self.0, arguments, results, handler) };
        cx.memory.shield(was);
        if status == 0 { Status::Ok } else { Status::Failed }
    }

    /// Collects all garbage.
    pub fn collect(self) {
        call!(self.lua_gc(ffi::LUA_GCCOLLECT, 0));
    }

    /// Pushes `source:line: ` of the function at a level of the call stack.
    fn push_place(self, level: c_int) {
        // SAFETY: raises an error only for want of memory, which is shielded
        // wherever this is called.
        unsafe { ffi::luaL_where(self.0, level) };
    }

    /// An error with the place of the calling function in front, as Lua's own
    /// library raises it.
    pub fn fail(self, text: impl AsRef<[u8]>) -> Raise {
        self.push_place(1);
        self.push(text.as_ref());
        call!(self.lua_concat(2));
        Raise
    }

    /// The error of a bad argument, as Lua's own library raises it.
    /// The function goes by the name that it was called by.
    pub fn bad_argument(self, n: c_int, function: &str, text: impl AsRef<[u8]>) -> Raise {
        let known = if self.is_called_by_name() { function } else { "?" };
        self.fail([format!("bad argument #{n} to '{known}' (").as_bytes(), text.as_ref(), b")"].concat())
    }

    /// Does the code that called the running function name it?
    fn is_called_by_name(self) -> bool {
        // SAFETY: Lua fills the record of a level that exists.
        unsafe {
            let mut ar: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.0, 0, &raw mut ar) == 0 {
                return false;
            }
            ffi::lua_getinfo(self.0, c"n".as_ptr(), &raw mut ar);
            !ar.name.is_null()
        }
    }

    /// Where the function at a level of the call stack is: source and line;
    /// and whether it is a C function.
    pub fn whereabouts(self, level: c_int) -> Option<(Vec<u8>, i64, bool)> {
        // SAFETY: Lua fills the record, and its strings live as long as the
        // function does.
        unsafe {
            let mut ar: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.0, level, &raw mut ar) == 0 {
                return None;
            }
            ffi::lua_getinfo(self.0, c"Sl".as_ptr(), &raw mut ar);
            let source = std::ffi::CStr::from_ptr(ar.source).to_bytes().to_vec();
            Some((source, i64::from(ar.currentline), *ar.what.cast::<u8>() == b'C'))
        }
    }

    /// Is the value a table that scripts see but cannot change?
    pub fn is_frozen(self, index: c_int) -> bool {
        if !self.metatable(index) {
            return false;
        }
        self.raw_index(-1, super::sandbox::FROZEN_MARK);
        let frozen = self.kind(-1) == Type::Pointer;
        self.pop(2);
        frozen
    }

    /// Replaces a frozen table at `index` by what it shows.
    pub fn thaw(self, index: c_int) {
        let index = self.absolute(index);
        if self.is_frozen(index) && self.metatable(index) {
            self.field(-1, b"__index");
            self.replace(index);
            self.pop(1);
        }
    }
}
