"""The parameters of database URLs, as Java's drivers, libpq and PyMySQL call them, sorted by use.

Names are compared without regard to case. Those that are used and need more than a table stand
in `database_parameters`.
"""

from collections.abc import Mapping

from gatesync.stores.sql_source import TlsMode

__all__ = ["LIBPQ", "NOT_DONE", "PASSED_OVER", "TARGETS", "TLS_MODES"]

TLS_MODES = {
    "disable": TlsMode.DISABLE,
    "disabled": TlsMode.DISABLE,
    "allow": TlsMode.PREFER,
    "prefer": TlsMode.PREFER,
    "preferred": TlsMode.PREFER,
    "require": TlsMode.REQUIRE,
    "required": TlsMode.REQUIRE,
    "trust": TlsMode.REQUIRE,
    "verify-ca": TlsMode.VERIFY_CA,
    "verify-full": TlsMode.VERIFY_FULL,
    "verify-identity": TlsMode.VERIFY_FULL,
}
LIBPQ = {  # names that are libpq's own, and PostgreSQL's Java driver's for the same
    "channel_binding": "channel_binding",
    "channelBinding": "channel_binding",
    "gssencmode": "gssencmode",
    "krbsrvname": "krbsrvname",
    "kerberosServerName": "krbsrvname",
    "loadBalanceHosts": "load_balance_hosts",
    "load_balance_hosts": "load_balance_hosts",
    "options": "options",
    "requireAuth": "require_auth",
    "require_auth": "require_auth",
    "keepalives": "keepalives",
    "keepalives_idle": "keepalives_idle",
    "keepalives_interval": "keepalives_interval",
    "keepalives_count": "keepalives_count",
    "passfile": "passfile",
    "sslcrl": "sslcrl",
    "sslnegotiation": "sslnegotiation",
    "ssl_min_protocol_version": "ssl_min_protocol_version",
}
TARGETS = {
    "any": "any",
    "primary": "read-write",
    "master": "read-write",
    "read-write": "read-write",
    "secondary": "standby",
    "slave": "standby",
    "standby": "standby",
    "read-only": "read-only",
    "prefersecondary": "prefer-standby",
    "preferslave": "prefer-standby",
    "prefer-standby": "prefer-standby",
    "preferprimary": "any",
}
# About how a Java driver caches, batches, converts and reconnects: nothing to do here.
_PASSED_OVER = """
    allowEncodingChanges allowMultiQueries allowPublicKeyRetrieval assumeMinServerVersion
    autoReconnect autoReconnectForPools autosave binaryTransfer cacheCallableStatements
    cachePrepStmts cacheResultSetMetadata cacheServerConfiguration cleanupSavepoints
    connectionTimeZone databaseMetadataCacheFields defaultFetchSize defaultRowFetchSize
    disableColumnSanitiser dontTrackOpenResources elideSetAutoCommits
    emulateUnsupportedPstmts failOverReadOnly forceConnectionTimeZoneToSession gssLib
    hostRecheckSeconds initialTimeout jaasApplicationName jaasLogin jdbcCompliantTruncation
    logServerErrorDetail logUnclosedConnections loggerFile loggerLevel maintainTimeStats
    maxReconnects noAccessToProcedureBodies nullCatalogMeansCurrent
    nullNamePatternMatchesAll paranoid prepStmtCacheSize prepStmtCacheSqlLimit
    prepareThreshold preparedStatementCacheQueries preparedStatementCacheSizeMiB
    preserveInstants quoteReturningIdentifiers readOnlyPropagatesToServer
    reWriteBatchedInserts reconnectAtTxEnd rewriteBatchedStatements secondsBeforeRetryMaster
    serverRSAPublicKeyFile serverTimezone stringtype tcpKeepAlive tcpNoDelay timezone
    tinyInt1isBit transformedBitIsBoolean unknownLength useAffectedRows useBulkStmts
    useCursorFetch useDynamicCharsetInfo useInformationSchema useJDBCCompliantTimezoneShift
    useLegacyDatetimeCode useLocalSessionState useLocalTransactionState
    useOldAliasMetadataBehavior useServerPrepStmts useTimezone useUnicode yearIsDateType
    zeroDateTimeBehavior
"""
PASSED_OVER = tuple(_PASSED_OVER.split())
# What they ask for is not done, and whoever wrote them should know: the reason, by name.
_ISOLATION = "the store sets what each transaction needs"
_KEY_STORE = "a Java key store cannot be read here: give PEM files, as sslrootcert, sslcert, sslkey"
_TLS_CHOICE = "the TLS library chooses"
NOT_DONE: Mapping[str, str] = {
    "allowLoadLocalInfile": "files are never loaded",
    "allowUrlInLocalInfile": "files are never loaded",
    "characterSet": "it is always UTF-8",
    "characterSetResults": "it is always UTF-8",
    "clientCertificateKeyStoreUrl": _KEY_STORE,
    "clientCertificateKeyStorePassword": _KEY_STORE,
    "clientCertificateKeyStoreType": _KEY_STORE,
    "collation": "the store's columns have their own",
    "connectionCollation": "the store's columns have their own",
    "defaultAuthenticationPlugin": "the server's choice is followed",
    "authenticationPlugins": "the server's choice is followed",
    "enabledSslCipherSuites": _TLS_CHOICE,
    "enabledSslProtocolSuites": _TLS_CHOICE,
    "enabledTLSProtocols": _TLS_CHOICE,
    "tlsCiphersuites": _TLS_CHOICE,
    "tlsVersions": _TLS_CHOICE,
    "init_command": _ISOLATION,
    "isolation_level": _ISOLATION,
    "keyStore": _KEY_STORE,
    "keyStorePassword": _KEY_STORE,
    "localSocketAddress": "the system chooses the address to connect from",
    "readOnly": "the store has to write; let read_url have a user that may only read",
    "sessionVariables": _ISOLATION,
    "socketFactory": "a Java class",
    "sslFactoryArg": "a Java class",
    "sslHostnameVerifier": "a Java class",
    "sslPasswordCallback": "a Java class",
    "authenticationPluginClassName": "a Java class",
    "queryInterceptors": "a Java class",
    "statementInterceptors": "a Java class",
    "connectionAttributes": "the program's name alone is told to the server",
    "transactionIsolation": _ISOLATION,
    "trustStore": _KEY_STORE,
    "trustStorePassword": _KEY_STORE,
    "trustCertificateKeyStoreUrl": _KEY_STORE,
    "trustCertificateKeyStorePassword": _KEY_STORE,
    "trustCertificateKeyStoreType": _KEY_STORE,
    "useCompression": "the driver does not compress",
}
