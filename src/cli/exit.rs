//! Exit codes.

/// How a command ended, in the codes of sysexits.h(3head) and one beside them, so that a script or a unit can tell what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_DATAERR`: what the command was given to judge is not accepted.
    DataErr = 65,
    /// `EX_NOINPUT`: a file that the command needs is missing or can't be read.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: the agent can't do its work, or can't be reached.
    Unavailable = 69,
    /// `EX_SOFTWARE`: the agent contradicts itself.
    Software = 70,
    /// `EX_OSERR`: the system refuses what it never should.
    OsErr = 71,
    /// `EX_CANTCREAT`: a file can't be made.
    CantCreat = 73,
    /// `EX_IOERR`: reading or writing failed on the way.
    IoErr = 74,
    /// `EX_TEMPFAIL`: not now; it may go later.
    TempFail = 75,
    /// `EX_PROTOCOL`: what answers is no agent, or not the one that is trusted.
    Protocol = 76,
    /// `EX_NOPERM`: the permissions of a file are wrong, or the agent refuses the caller.
    NoPerm = 77,
    /// `EX_CONFIG`: the configuration is refused.
    Config = 78,
    /// Entries are missing that should have been there: the ring has lost them. All others were given.
    Gap = 79,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }
}
