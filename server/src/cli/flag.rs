//! One flag: its name, its default and what it does.

/// A flag this server knows.
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// Whether it may stand alone.
    pub(super) is_bool: bool,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) effect: Effect,
}

/// The effect of a flag here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// That of etcd's flag.
    Serves,
    /// Nothing, and this is why: it is about something that is not here.
    Nothing(&'static str),
    /// Only these values can be had, the first by default; anything else is refused.
    Only(&'static [&'static str]),
    /// Not there yet: refused by name.
    Missing,
}

pub(super) const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        is_bool: false,
        default,
        help,
        effect: Effect::Serves,
    }
}

pub(super) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        is_bool: true,
        ..flag(name, "false", help)
    }
}

/// A flag whose help is its effect.
pub(super) const fn other(name: &'static str, effect: Effect) -> Flag {
    Flag {
        effect,
        ..flag(name, "", "")
    }
}

pub(super) const fn other_switch(name: &'static str, effect: Effect) -> Flag {
    Flag {
        is_bool: true,
        ..other(name, effect)
    }
}
