//! The bytes of commands of authentication: the family's tag, then the command's own.

use super::{Access, AuthCommand, Permission};
use crate::command::Keys;
use crate::command::codec::wire::{Reader, Sink};
use crate::command::codec::{Canonical, CodecError, unknown};

const TAG: u8 = 13;

impl AuthCommand {
    /// The tags that begin one.
    pub(in crate::command) const TAGS: std::ops::RangeInclusive<u8> = TAG..=TAG;
}

impl Canonical for AuthCommand {
    fn write(&self, out: &mut impl Sink) {
        out.u8(TAG);
        match self {
            Self::Enable => out.u8(1),
            Self::Disable => out.u8(2),
            Self::Authenticate { name, token } => {
                out.u8(3);
                out.bytes(name.as_bytes());
                out.bytes(token.as_bytes());
            }
            Self::UserAdd { name, password } => {
                out.u8(4);
                out.bytes(name.as_bytes());
                match password {
                    None => out.u8(0),
                    Some(hash) => {
                        out.u8(1);
                        out.bytes(hash);
                    }
                }
            }
            Self::UserDelete { name } => {
                out.u8(5);
                out.bytes(name.as_bytes());
            }
            Self::UserChangePassword { name, password } => {
                out.u8(6);
                out.bytes(name.as_bytes());
                out.bytes(password);
            }
            Self::UserGrantRole { name, role } => {
                out.u8(7);
                out.bytes(name.as_bytes());
                out.bytes(role.as_bytes());
            }
            Self::UserRevokeRole { name, role } => {
                out.u8(8);
                out.bytes(name.as_bytes());
                out.bytes(role.as_bytes());
            }
            Self::RoleAdd { role } => {
                out.u8(9);
                out.bytes(role.as_bytes());
            }
            Self::RoleDelete { role } => {
                out.u8(10);
                out.bytes(role.as_bytes());
            }
            Self::RoleGrantPermission { role, permission } => {
                out.u8(11);
                out.bytes(role.as_bytes());
                permission.write(out);
            }
            Self::RoleRevokePermission { role, keys } => {
                out.u8(12);
                out.bytes(role.as_bytes());
                keys.write(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        let tag = input.u8()?;
        if tag != TAG {
            return Err(unknown("command", tag, at));
        }
        let at = input.at();
        Ok(match input.u8()? {
            1 => Self::Enable,
            2 => Self::Disable,
            3 => Self::Authenticate {
                name: input.text()?,
                token: input.text()?,
            },
            4 => Self::UserAdd {
                name: input.text()?,
                password: match input.bool()? {
                    false => None,
                    true => Some(input.bytes()?),
                },
            },
            5 => Self::UserDelete {
                name: input.text()?,
            },
            6 => Self::UserChangePassword {
                name: input.text()?,
                password: input.bytes()?,
            },
            7 => Self::UserGrantRole {
                name: input.text()?,
                role: input.text()?,
            },
            8 => Self::UserRevokeRole {
                name: input.text()?,
                role: input.text()?,
            },
            9 => Self::RoleAdd {
                role: input.text()?,
            },
            10 => Self::RoleDelete {
                role: input.text()?,
            },
            11 => Self::RoleGrantPermission {
                role: input.text()?,
                permission: Permission::read(input)?,
            },
            12 => Self::RoleRevokePermission {
                role: input.text()?,
                keys: Keys::read(input)?,
            },
            tag => return Err(unknown("auth command", tag, at)),
        })
    }
}

/// The state keeps these bytes as they are.
impl Canonical for Permission {
    fn write(&self, out: &mut impl Sink) {
        let Self { access, keys } = self;
        out.u8(match access {
            Access::Read => 1,
            Access::Write => 2,
            Access::ReadWrite => 3,
        });
        keys.write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        let access = match input.u8()? {
            1 => Access::Read,
            2 => Access::Write,
            3 => Access::ReadWrite,
            tag => return Err(unknown("permission", tag, at)),
        };
        Ok(Self {
            access,
            keys: Keys::read(input)?,
        })
    }
}
