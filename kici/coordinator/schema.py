"""Tables of the coordinator. Moments are epoch milliseconds; hashes are 32 raw bytes.

No secret is stored in clear: tokens and credentials only as hashes (peer spec 2.2, 2.4), a
job's payload sealed (``vault``) and only until the job has ended.
"""

SCHEMA_VERSION = 3

#: Since version 2: the number of the next line of each step whose lines are numbered.
_LOG_LINES = """
CREATE TABLE log_lines (
  job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  step_index INTEGER NOT NULL,
  next_line INTEGER NOT NULL,
  PRIMARY KEY (job_id, step_index)
) WITHOUT ROWID;
"""
#: Since version 3: what the rows of a job in ``steps`` amount to.
_STEP_SUMS = """
CREATE TABLE step_sums (
  job_id TEXT PRIMARY KEY REFERENCES jobs (job_id) ON DELETE CASCADE,
  n_rows INTEGER NOT NULL,
  n_bytes INTEGER NOT NULL,
  n_dropped INTEGER NOT NULL
) WITHOUT ROWID;
"""
SCHEMA = f"""
CREATE TABLE join_tokens (
  id TEXT PRIMARY KEY,
  token_hash BLOB NOT NULL UNIQUE,
  org_id TEXT NOT NULL,
  routing_key TEXT NOT NULL,
  role TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  consumed_at INTEGER,
  consumed_by_instance TEXT
);
CREATE TABLE peer_credentials (
  id TEXT PRIMARY KEY,
  instance_id TEXT NOT NULL,
  credential_hash BLOB NOT NULL,
  role TEXT NOT NULL,
  routing_key TEXT NOT NULL,
  source_token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  last_seen_at INTEGER,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER
);
-- At most one credential in force per instance (2.4).
CREATE UNIQUE INDEX one_credential ON peer_credentials (instance_id) WHERE revoked_at IS NULL;
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id TEXT NOT NULL UNIQUE,
  run_id TEXT NOT NULL,
  name TEXT NOT NULL,
  workflow TEXT NOT NULL,
  labels TEXT NOT NULL,
  state TEXT NOT NULL,
  holder TEXT,
  created_at INTEGER NOT NULL,
  accepted_at INTEGER,
  started_at INTEGER,
  finished_at INTEGER,
  progress_at INTEGER,
  timeout_ms INTEGER,
  reason TEXT,
  data TEXT,
  sealed BLOB,
  log_bytes INTEGER NOT NULL DEFAULT 0,
  log_lines_dropped INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_run ON jobs (run_id);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE attempts (
  job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  instance_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT
);
CREATE INDEX attempts_by_job ON attempts (job_id);
CREATE TABLE steps (
  job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  step_index INTEGER NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  data TEXT,
  PRIMARY KEY (job_id, step_index)
) WITHOUT ROWID;
CREATE TABLE log_chunks (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  step_index INTEGER NOT NULL,
  lines BLOB NOT NULL
);
CREATE INDEX log_by_job ON log_chunks (job_id, number);
{_LOG_LINES}{_STEP_SUMS}PRAGMA user_version = {SCHEMA_VERSION};
"""
#: From each older version to the next one.
MIGRATIONS = {
    1: f"{_LOG_LINES} PRAGMA user_version = 2;",
    2: f"""{_STEP_SUMS}
INSERT INTO step_sums SELECT job_id, COUNT(*), COALESCE(SUM(length(CAST(data AS BLOB))), 0), 0
  FROM steps GROUP BY job_id;
PRAGMA user_version = 3;""",
}
