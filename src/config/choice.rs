//! Directives whose value is one word of a fixed list.

/// Declares an enum together with the words that stand for it in the
/// configuration; the first variant is the `Default` of the Rust type (the
/// directive's own default stands in its row).
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident {
        $(#[$first_meta:meta])* $first:ident = $first_word:literal
        $(, $(#[$variant_meta:meta])* $variant:ident = $word:literal)* $(,)?
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $(#[$first_meta])*
            #[default]
            $first,
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// The words of the configuration file, in declaration order.
            pub const NAMES: &'static [&'static str] = &[$first_word $(, $word)*];
            const ALL: &'static [Self] = &[Self::$first $(, Self::$variant)*];

            /// The word that stands for this value.
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            /// The value at `index` of [`Self::NAMES`]; past its end, the first.
            pub(crate) fn from_index(index: usize) -> Self {
                Self::ALL.get(index).copied().unwrap_or_default()
            }
        }
    )+};
}

choices! {
    /// What to remove when `maxmemory` is reached.
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        Noeviction = "noeviction",
    }

    /// The least severe log line that is written.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
        Nothing = "nothing",
    }

    /// What a log line looks like. As in Valkey 8.1.
    LogFormat {
        Legacy = "legacy",
        Logfmt = "logfmt",
        Json = "json",
    }

    /// How a log line tells the time. As in Valkey 8.1.
    LogTimestamp {
        Legacy = "legacy",
        Iso8601 = "iso8601",
        Milliseconds = "milliseconds",
    }

    /// Who may use a dangerous group of commands or directives.
    Guard {
        No = "no",
        Yes = "yes",
        /// Only clients on a loopback address or a Unix socket.
        Local = "local",
    }

    /// The supervisor that waits for the server's readiness.
    Supervised {
        Upstart = "upstart",
        Systemd = "systemd",
        Auto = "auto",
        No = "no",
    }

    /// Where in syslog the lines are filed.
    SyslogFacility {
        User = "user",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }

    /// Channels that a new ACL user may use.
    AclPubsubDefault {
        Allchannels = "allchannels",
        Resetchannels = "resetchannels",
    }

    /// When the append-only file is flushed to the disk.
    AppendFsync {
        Everysec = "everysec",
        Always = "always",
        No = "no",
    }

    /// Whether the kernel's out-of-memory score is adjusted.
    OomScoreAdj {
        No = "no",
        Yes = "yes",
        Relative = "relative",
        Absolute = "absolute",
    }

    /// How a failed propagation is treated.
    PropagationError {
        Ignore = "ignore",
        Panic = "panic",
        PanicOnReplicas = "panic-on-replicas",
    }

    /// How a replica loads a snapshot that comes over the socket.
    DisklessLoad {
        Disabled = "disabled",
        OnEmptyDb = "on-empty-db",
        Swapdb = "swapdb",
    }

    /// Whose RESTORE payloads are checked deeply.
    SanitizeDump {
        No = "no",
        Yes = "yes",
        Clients = "clients",
    }

    /// What a cluster node calls itself in redirections.
    EndpointType {
        Ip = "ip",
        Hostname = "hostname",
        UnknownEndpoint = "unknown-endpoint",
    }

    /// Whether TLS clients must show a certificate.
    TlsAuthClients {
        No = "no",
        Yes = "yes",
        Optional = "optional",
    }

    /// How strictly the commands of one pipeline keep their order.
    PipelineOrder {
        /// Commands to different cores may run concurrently.
        Relaxed = "relaxed",
        /// Every command waits for the one before it.
        Strict = "strict",
    }
}
