//! How CPython lays objects out: how many bytes an object takes by itself, and where it keeps its members.
//!
//! Everything is read in place. Nothing here calls Python, allocates, takes a reference or can fail, so a type's own
//! `__sizeof__`, `__getattribute__` or `__iter__` is never asked. Sizes are what the allocator hands out, not what
//! was asked for: a float asks for 24 bytes and takes 32.
//!
//! The layouts of 3.11 to 3.13 are tested. 3.14 is written for, but nobody has run or checked it there.

use pyo3::ffi;
use std::ffi::{c_ulong, c_void};
use std::ptr::addr_of_mut;

const WORD: u64 = size_of::<usize>() as u64;
/// What the garbage collector keeps in front of an object.
const GC_HEAD: u64 = if cfg!(Py_GIL_DISABLED) { 0 } else { 2 * WORD };
/// References from here on mean "never freed": 3.12 and later set the upper bits, 3.11 starts at 999 999 999.
const IMMORTAL: u32 = 500_000_000;
/// The interpreter keeps the list of weak references in front of the object (3.12 and later).
const MANAGED_WEAKREF: c_ulong = 1 << 3;
/// Attribute values lie inside the object (3.13 and later).
const INLINE_VALUES: c_ulong = 1 << 2;

/// Where an object keeps references to other objects: `slots` places, `step` words apart.
#[derive(Clone, Copy)]
pub struct Members {
    at: *const *mut ffi::PyObject,
    step: usize,
    form: Form,
    /// How many places there are.
    pub slots: usize,
    /// How many of them are taken; for attributes, at most.
    pub live: usize,
    /// True if the members are attributes of an object that is no builtin container.
    pub attributes: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// One reference.
    One,
    /// A key, then its value; no value, no pair.
    Pair,
    /// A reference, then its hash; -1 marks one that was removed.
    Hashed,
}

impl Members {
    fn new(at: *const *mut ffi::PyObject, slots: usize, live: usize, step: usize, form: Form) -> Self {
        Members { at, step, form, slots, live, attributes: false }
    }

    /// Consecutive attributes, some of which may be missing.
    fn attributes(at: *const *mut ffi::PyObject, slots: usize) -> Self {
        Members { attributes: true, ..Members::new(at, slots, slots, 1, Form::One) }
    }

    /// How many objects one taken place holds.
    #[inline]
    pub fn unit(&self) -> usize {
        if self.form == Form::Pair { 2 } else { 1 }
    }

    /// The objects in one place, [`unit`](Self::unit) of them; `None` for a place that is not taken.
    ///
    /// # Safety
    /// `slot` is below `slots`, and the object that has these members was not changed since it was measured.
    #[inline]
    pub unsafe fn get(&self, slot: usize) -> Option<[*mut ffi::PyObject; 2]> {
        // SAFETY: the place lies within the table that was measured.
        unsafe {
            let place = self.at.add(slot * self.step);
            match self.form {
                Form::One => (!(*place).is_null()).then(|| [*place; 2]),
                Form::Pair => (!(*place.add(1)).is_null()).then(|| [*place, *place.add(1)]),
                Form::Hashed => (!(*place).is_null() && *place.add(1) as isize != -1).then(|| [*place; 2]),
            }
        }
    }
}

/// What the allocator takes for a request: steps of 16 bytes, beyond 512 with a word of malloc's own.
#[inline]
fn rounded(bytes: u64) -> u64 {
    if bytes <= 512 { bytes.next_multiple_of(16) } else { (bytes + WORD).next_multiple_of(16) }
}

/// A type's flags.
///
/// # Safety
/// `kind` is a valid type.
#[inline]
unsafe fn flags_of(kind: *mut ffi::PyTypeObject) -> c_ulong {
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: the caller passes a valid type.
    let flags = unsafe { (*kind).tp_flags };
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: as above.
    let flags = unsafe { ffi::PyType_GetFlags(kind) };
    flags
}

/// The references to an object, or `None` if the interpreter keeps it for ever.
///
/// # Safety
/// `object` is valid and the interpreter is held.
#[inline]
pub unsafe fn references(object: *mut ffi::PyObject) -> Option<u32> {
    // SAFETY: the caller passes a valid object.
    let count = unsafe { ffi::Py_REFCNT(object) } as u32;
    (count < IMMORTAL).then_some(count)
}

/// The bytes an object takes by itself, telling `found` of each run of members. 0 for what belongs to the program, not
/// to a value: None, booleans, small ints, interned strings, modules, classes and functions.
///
/// With `attributes` false, the members of objects that are no builtin containers are not told, only counted as places.
///
/// # Safety
/// `object` is valid and the interpreter is held.
#[inline]
pub unsafe fn measure(object: *mut ffi::PyObject, attributes: bool, found: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: each reader gets an object whose type's flags say that it has that layout.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        let flags = flags_of(kind);
        if flags & ffi::Py_TPFLAGS_UNICODE_SUBCLASS != 0 {
            return string(object, kind);
        } else if flags & ffi::Py_TPFLAGS_LONG_SUBCLASS != 0 {
            return int(object, kind);
        } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
            return rounded((*kind).tp_basicsize as u64);
        }
        let head = if flags & ffi::Py_TPFLAGS_HAVE_GC != 0 { GC_HEAD } else { 0 };
        let size = (*kind).tp_basicsize as u64 + head;
        let builtin = if flags & ffi::Py_TPFLAGS_DICT_SUBCLASS != 0 {
            rounded(size) + dict(object.cast(), found)
        } else if flags & ffi::Py_TPFLAGS_LIST_SUBCLASS != 0 {
            rounded(size) + list(object.cast(), found)
        } else if flags & ffi::Py_TPFLAGS_TUPLE_SUBCLASS != 0 {
            rounded(size + tuple(object, found))
        } else if flags & ffi::Py_TPFLAGS_BYTES_SUBCLASS != 0 {
            rounded(size + ffi::Py_SIZE(object) as u64)
        } else if kind == addr_of_mut!(ffi::PySet_Type) || kind == addr_of_mut!(ffi::PyFrozenSet_Type) {
            rounded(size) + set(object.cast(), found)
        } else {
            return other(object, kind, flags, size, attributes, found);
        };
        if flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            return builtin;
        }
        builtin + instance(object, kind, flags, attributes, found)
    }
}

/// Whether a string is interned, the bytes of a character, whether characters follow the header, whether all are ASCII.
///
/// # Safety
/// `object` is a string.
#[inline]
unsafe fn string_state(object: *const ffi::PyASCIIObject) -> (bool, u64, bool, bool) {
    #[cfg(not(Py_3_14))]
    // SAFETY: the caller passes a string.
    unsafe {
        let header = &*object;
        (header.interned() != 0, u64::from(header.kind()), header.compact() != 0, header.ascii() != 0)
    }
    #[cfg(Py_3_14)]
    {
        // SAFETY: the caller passes a string. 16 bits of `interned` come first, then the bit fields.
        let (interned, bits) = unsafe { *(&raw const (*object).state).cast::<(u16, u16)>() };
        (interned != 0, u64::from(bits & 7), bits & 8 != 0, bits & 16 != 0)
    }
}

/// A string: one block if it is compact, and what is kept of it in UTF-8.
///
/// # Safety
/// `object` is a string of type `kind`.
#[inline]
unsafe fn string(object: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject) -> u64 {
    // SAFETY: the caller passes a string; only those that are not compact ASCII have the longer headers.
    unsafe {
        let (interned, width, compact, ascii) = string_state(object.cast());
        if interned {
            return 0;
        }
        let characters = ((*object.cast::<ffi::PyASCIIObject>()).length as u64 + 1) * width;
        if compact && ascii {
            return rounded(size_of::<ffi::PyASCIIObject>() as u64 + characters);
        }
        let header = &*object.cast::<ffi::PyCompactUnicodeObject>();
        let data = (*object.cast::<ffi::PyUnicodeObject>()).data.any.cast_const();
        let utf8: *const c_void = header.utf8.cast_const().cast();
        let cached =
            if utf8.is_null() || (!compact && utf8 == data) { 0 } else { rounded(header.utf8_length as u64 + 1) };
        if compact {
            return rounded(size_of::<ffi::PyCompactUnicodeObject>() as u64 + characters) + cached;
        }
        rounded((*kind).tp_basicsize as u64) + rounded(characters) + cached
    }
}

/// An int.
///
/// # Safety
/// `object` is an int of type `kind`.
#[inline]
unsafe fn int(object: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject) -> u64 {
    if kind == addr_of_mut!(ffi::PyBool_Type) {
        return 0;
    }
    // SAFETY: the caller passes an int: after the header comes its size, from 3.12 on above three bits of flags.
    let size = unsafe { *object.cast::<isize>().byte_add(size_of::<ffi::PyObject>()) };
    let digits = if cfg!(Py_3_12) { size as usize >> 3 } else { size.unsigned_abs() };
    // SAFETY: the caller passes a valid type.
    rounded(unsafe { (*kind).tp_basicsize } as u64 + 4 * digits.max(1) as u64)
}

/// A list's table, with the room it has.
///
/// # Safety
/// `list` is a list.
#[inline]
unsafe fn list(list: *mut ffi::PyListObject, found: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: the caller passes a list.
    let (at, taken, allocated) = unsafe { ((*list).ob_item, (*list).ob_base.ob_size as usize, (*list).allocated) };
    if taken > 0 {
        found(Members::new(at, taken, taken, 1, Form::One));
    }
    rounded(allocated as u64 * WORD)
}

/// The items of a tuple.
///
/// # Safety
/// `tuple` is a tuple.
#[inline]
unsafe fn tuple(tuple: *mut ffi::PyObject, found: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: the caller passes a tuple, whose items begin at `ob_item`.
    let (at, size) =
        unsafe { (&raw const (*tuple.cast::<ffi::PyTupleObject>()).ob_item as *const _, ffi::Py_SIZE(tuple) as usize) };
    if size > 0 {
        found(Members::new(at, size, size, 1, Form::One));
    }
    size as u64 * WORD
}

/// A set's table, if it has outgrown the one inside.
///
/// # Safety
/// `set` is exactly a set or frozenset.
#[inline]
unsafe fn set(set: *mut ffi::PySetObject, found: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: the caller passes an exact set or frozenset, whose table has `mask` + 1 entries of key and hash.
    unsafe {
        let (slots, live) = ((*set).mask as usize + 1, (*set).used as usize);
        if live > 0 {
            found(Members::new((*set).table.cast_const().cast(), slots, live, 2, Form::Hashed));
        }
        let inside = std::ptr::eq((*set).table, (&raw const (*set).smalltable).cast());
        if inside { 0 } else { rounded(slots as u64 * 2 * WORD) }
    }
}

/// The head of a dict's table. Behind it come 1 << `log2_index_bytes` bytes of indices, then room for two thirds of
/// 1 << `log2_size` entries.
#[repr(C)]
struct Keys {
    references: isize,
    log2_size: u8,
    log2_index_bytes: u8,
    /// 0: entries are hash, key and value; else key and value.
    kind: u8,
    version: u32,
    usable: isize,
    entries: isize,
}

impl Keys {
    fn entry_words(&self) -> usize {
        if self.kind == 0 { 3 } else { 2 }
    }

    fn bytes(&self) -> u64 {
        // The table of a dict that never had a key is one that all share.
        if self.log2_size < 3 {
            return 0;
        }
        let room = (1u64 << (self.log2_size + 1)) / 3;
        rounded(size_of::<Keys>() as u64 + (1 << self.log2_index_bytes) + room * self.entry_words() as u64 * WORD)
    }
}

/// A dict's table.
///
/// # Safety
/// `dict` is a dict.
#[inline]
unsafe fn dict(dict: *mut ffi::PyDictObject, found: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: the caller passes a dict; its table begins as `Keys` says.
    unsafe {
        let keys: *const Keys = (*dict).ma_keys.cast_const().cast();
        let values: *const u8 = (*dict).ma_values.cast_const().cast();
        if !values.is_null() {
            let (run, bytes) = attribute_values(values, keys);
            if run.slots > 0 {
                found(Members { attributes: false, ..run });
            }
            return bytes;
        }
        let (slots, live) = ((*keys).entries as usize, (*dict).ma_used as usize);
        if live > 0 {
            let step = (*keys).entry_words();
            let entries = keys.add(1).byte_add(1 << (*keys).log2_index_bytes).cast::<*mut ffi::PyObject>();
            found(Members::new(entries.add(step - 2), slots, live, step, Form::Pair));
        }
        (*keys).bytes()
    }
}

/// The values of attributes whose names all instances of a class share, and the bytes allocated for them apart.
///
/// # Safety
/// `values` are the live values of an object whose attribute names are `keys`.
unsafe fn attribute_values(values: *const u8, keys: *const Keys) -> (Members, u64) {
    // SAFETY: the caller passes the values that belong to these keys. Before 3.13 the byte in front of them is the size
    // of what precedes them, which is their number and 2 to 9 bytes more; their number is never below that of the keys
    // in use and to come. From 3.13 on a head of one word tells their number, and whether they lie in the object.
    unsafe {
        if cfg!(Py_3_13) {
            let (capacity, embedded) = (u64::from(*values), *values.add(2) != 0);
            let bytes = if embedded { 0 } else { rounded(inline_bytes(capacity)) };
            return (Members::attributes(values.byte_add(8).cast(), capacity as usize), bytes);
        }
        let (prefix, known) = (u64::from(*values.sub(1)), ((*keys).entries + (*keys).usable) as u64);
        let bytes = rounded(prefix + known.max(prefix.saturating_sub(9)) * WORD);
        (Members::attributes(values.cast(), known as usize), bytes)
    }
}

/// Values, a byte each for their order, and a head.
fn inline_bytes(capacity: u64) -> u64 {
    capacity.next_multiple_of(WORD) + (capacity + 1) * WORD
}

/// An object that is no builtin: its struct, and what [`instance`] says.
///
/// # Safety
/// `object` is of type `kind` with these flags.
#[inline(never)]
unsafe fn other(
    object: *mut ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    flags: c_ulong,
    size: u64,
    attributes: bool,
    found: &mut impl FnMut(Members),
) -> u64 {
    // SAFETY: the caller passes an object and its type; `ob_size` is there if the type has items.
    unsafe {
        if belongs_to_the_program(object, kind, flags) {
            return 0;
        }
        if kind == addr_of_mut!(ffi::PyByteArray_Type) {
            return rounded(size) + rounded((*object.cast::<ffi::PyByteArrayObject>()).ob_alloc as u64);
        }
        let items = if has_size(object, kind) { ffi::Py_SIZE(object).unsigned_abs() as u64 } else { 0 };
        rounded(size + items * (*kind).tp_itemsize as u64) + instance(object, kind, flags, attributes, found)
    }
}

/// True if an object says how many items it has. Those with a frame of their own have items and say nothing of the kind:
/// something else lies there.
///
/// # Safety
/// `object` is of type `kind`.
unsafe fn has_size(object: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the caller passes an object and its type.
    unsafe {
        (*kind).tp_itemsize > 0
            && ffi::PyGen_CheckExact(object) == 0
            && ffi::PyCoro_CheckExact(object) == 0
            && ffi::PyAsyncGen_CheckExact(object) == 0
            && ffi::PyFrame_Check(object) == 0
    }
}

/// None, modules, classes and functions.
///
/// # Safety
/// `object` is of type `kind` with these flags.
unsafe fn belongs_to_the_program(object: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject, flags: c_ulong) -> bool {
    // SAFETY: addresses are compared, and a type's list of bases is walked.
    unsafe {
        object == ffi::Py_None()
            || flags & ffi::Py_TPFLAGS_TYPE_SUBCLASS != 0
            || kind == addr_of_mut!(ffi::PyFunction_Type)
            || kind == addr_of_mut!(ffi::PyCFunction_Type)
            || ((*kind).tp_dictoffset != 0 && ffi::PyType_IsSubtype(kind, addr_of_mut!(ffi::PyModule_Type)) != 0)
    }
}

/// What instances have beyond their struct: `__dict__` and `__slots__`. The words in front of the object, the values.
///
/// # Safety
/// `object` is of type `kind` with these flags.
unsafe fn instance(
    object: *mut ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    flags: c_ulong,
    attributes: bool,
    found: &mut impl FnMut(Members),
) -> u64 {
    let mut tell = |run: Members| {
        if attributes && run.slots > 0 {
            found(run);
        }
    };
    // SAFETY: the caller passes an object and its type; flags and offsets of a type are those of its instances.
    unsafe {
        if flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 {
            slots(object, kind, &mut tell);
        }
        if flags & ffi::Py_TPFLAGS_MANAGED_DICT != 0 {
            return managed(object, kind, flags, attributes, &mut tell);
        }
        let weak = cfg!(Py_3_12) && flags & MANAGED_WEAKREF != 0;
        let front = if weak { 2 * WORD } else { 0 };
        if (*kind).tp_dictoffset <= 0 {
            return front;
        }
        front + dict_at(object.byte_offset((*kind).tp_dictoffset).cast(), attributes, &mut tell)
    }
}

/// A `__dict__` that an object points to. It counts as a member, or else by its own bytes only.
///
/// # Safety
/// `place` points to a pointer to a dict, or to null.
unsafe fn dict_at(place: *const *mut ffi::PyObject, attributes: bool, tell: &mut impl FnMut(Members)) -> u64 {
    // SAFETY: the caller passes the address of a pointer to a dict, or to nothing.
    unsafe {
        if (*place).is_null() || attributes {
            tell(Members::attributes(place, usize::from(!(*place).is_null())));
            return 0;
        }
        let size = (*addr_of_mut!(ffi::PyDict_Type)).tp_basicsize as u64 + GC_HEAD;
        rounded(size) + dict((*place).cast(), &mut |_| ())
    }
}

/// Attributes that the interpreter manages: values beside the object, or inside it, until someone asks for `__dict__`.
///
/// # Safety
/// `object` is of type `kind`, whose flags say that the interpreter manages its attributes.
unsafe fn managed(
    object: *mut ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    flags: c_ulong,
    attributes: bool,
    tell: &mut impl FnMut(Members),
) -> u64 {
    // SAFETY: with this flag two words precede the collector's head. 3.11: values and dict. 3.12: weak references and
    // either dict or values, marked by an odd address. 3.13: weak references and dict; values end the object.
    unsafe {
        let keys: *const Keys = (*kind.cast::<ffi::PyHeapTypeObject>()).ht_cached_keys.cast_const().cast();
        let place = object.cast::<*mut ffi::PyObject>().sub(if cfg!(Py_GIL_DISABLED) { 1 } else { 3 });
        let front = 2 * WORD;
        if cfg!(Py_3_13) {
            if flags & INLINE_VALUES == 0 {
                return front + dict_at(place, attributes, tell);
            }
            let values: *const u8 = object.byte_offset((*kind).tp_basicsize).cast_const().cast();
            let front = front + inline_bytes(u64::from(*values));
            if (*place).is_null() && *values.add(3) != 0 {
                tell(attribute_values(values, keys).0);
                return front;
            }
            return front + dict_at(place, attributes, tell);
        }
        let tagged = (*place).addr() & 1 == 1;
        let values = if cfg!(Py_3_12) { (*place).byte_add(1) } else { *place.sub(1) };
        let apart = if cfg!(Py_3_12) { tagged } else { !values.is_null() };
        if apart && !keys.is_null() {
            let (run, bytes) = attribute_values(values.cast_const().cast(), keys);
            tell(run);
            return front + bytes;
        }
        front + if apart { 0 } else { dict_at(place, attributes, tell) }
    }
}

/// The slots of a class and its bases: consecutive for each class.
///
/// # Safety
/// `object` is of type `kind`, a heap type.
unsafe fn slots(object: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject, tell: &mut impl FnMut(Members)) {
    let mut class = kind;
    // SAFETY: the list of bases ends with null, that of a type's members with one that has no name.
    unsafe {
        while !class.is_null() && flags_of(class) & ffi::Py_TPFLAGS_HEAPTYPE != 0 {
            let mut member = (*class).tp_members;
            while !member.is_null() && !(*member).name.is_null() {
                let first = (*member).offset;
                let mut count = 0;
                while !(*member).name.is_null()
                    && (*member).type_code == ffi::Py_T_OBJECT_EX
                    && (*member).offset == first + count as ffi::Py_ssize_t * WORD as ffi::Py_ssize_t
                {
                    (count, member) = (count + 1, member.add(1));
                }
                if count > 0 {
                    tell(Members::attributes(object.byte_offset(first).cast_const().cast(), count));
                } else {
                    member = member.add(1);
                }
            }
            class = (*class).tp_base;
        }
    }
}
