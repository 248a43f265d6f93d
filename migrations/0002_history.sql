-- Rollups: for each metric how many samples knew it, their sum, least and greatest, in the units of the
-- samples. at_s is the beginning of the minute or hour, in seconds since 1970.

CREATE TABLE sample_1m (
    machine_id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    up_n INTEGER NOT NULL DEFAULT 0, up_sum INTEGER, up_min INTEGER, up_max INTEGER,
    poll_s_n INTEGER NOT NULL DEFAULT 0, poll_s_sum INTEGER, poll_s_min INTEGER, poll_s_max INTEGER,
    cpu_percent_n INTEGER NOT NULL DEFAULT 0, cpu_percent_sum INTEGER, cpu_percent_min INTEGER, cpu_percent_max INTEGER,
    load_1m_n INTEGER NOT NULL DEFAULT 0, load_1m_sum INTEGER, load_1m_min INTEGER, load_1m_max INTEGER,
    load_5m_n INTEGER NOT NULL DEFAULT 0, load_5m_sum INTEGER, load_5m_min INTEGER, load_5m_max INTEGER,
    load_15m_n INTEGER NOT NULL DEFAULT 0, load_15m_sum INTEGER, load_15m_min INTEGER, load_15m_max INTEGER,
    ram_used_bytes_n INTEGER NOT NULL DEFAULT 0, ram_used_bytes_sum INTEGER, ram_used_bytes_min INTEGER, ram_used_bytes_max INTEGER,
    ram_total_bytes_n INTEGER NOT NULL DEFAULT 0, ram_total_bytes_sum INTEGER, ram_total_bytes_min INTEGER, ram_total_bytes_max INTEGER,
    ram_available_bytes_n INTEGER NOT NULL DEFAULT 0, ram_available_bytes_sum INTEGER, ram_available_bytes_min INTEGER, ram_available_bytes_max INTEGER,
    disk_used_bytes_n INTEGER NOT NULL DEFAULT 0, disk_used_bytes_sum INTEGER, disk_used_bytes_min INTEGER, disk_used_bytes_max INTEGER,
    disk_total_bytes_n INTEGER NOT NULL DEFAULT 0, disk_total_bytes_sum INTEGER, disk_total_bytes_min INTEGER, disk_total_bytes_max INTEGER,
    uptime_s_n INTEGER NOT NULL DEFAULT 0, uptime_s_sum INTEGER, uptime_s_min INTEGER, uptime_s_max INTEGER,
    PRIMARY KEY (machine_id, at_s)
) STRICT, WITHOUT ROWID;

CREATE TABLE gpu_sample_1m (
    gpu_id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    vram_total_bytes_n INTEGER NOT NULL DEFAULT 0, vram_total_bytes_sum INTEGER, vram_total_bytes_min INTEGER, vram_total_bytes_max INTEGER,
    vram_used_bytes_n INTEGER NOT NULL DEFAULT 0, vram_used_bytes_sum INTEGER, vram_used_bytes_min INTEGER, vram_used_bytes_max INTEGER,
    vram_free_bytes_n INTEGER NOT NULL DEFAULT 0, vram_free_bytes_sum INTEGER, vram_free_bytes_min INTEGER, vram_free_bytes_max INTEGER,
    utilisation_n INTEGER NOT NULL DEFAULT 0, utilisation_sum INTEGER, utilisation_min INTEGER, utilisation_max INTEGER,
    temperature_c_n INTEGER NOT NULL DEFAULT 0, temperature_c_sum INTEGER, temperature_c_min INTEGER, temperature_c_max INTEGER,
    power_w_n INTEGER NOT NULL DEFAULT 0, power_w_sum INTEGER, power_w_min INTEGER, power_w_max INTEGER,
    PRIMARY KEY (gpu_id, at_s)
) STRICT, WITHOUT ROWID;

CREATE TABLE sample_1h (
    machine_id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    up_n INTEGER NOT NULL DEFAULT 0, up_sum INTEGER, up_min INTEGER, up_max INTEGER,
    poll_s_n INTEGER NOT NULL DEFAULT 0, poll_s_sum INTEGER, poll_s_min INTEGER, poll_s_max INTEGER,
    cpu_percent_n INTEGER NOT NULL DEFAULT 0, cpu_percent_sum INTEGER, cpu_percent_min INTEGER, cpu_percent_max INTEGER,
    load_1m_n INTEGER NOT NULL DEFAULT 0, load_1m_sum INTEGER, load_1m_min INTEGER, load_1m_max INTEGER,
    load_5m_n INTEGER NOT NULL DEFAULT 0, load_5m_sum INTEGER, load_5m_min INTEGER, load_5m_max INTEGER,
    load_15m_n INTEGER NOT NULL DEFAULT 0, load_15m_sum INTEGER, load_15m_min INTEGER, load_15m_max INTEGER,
    ram_used_bytes_n INTEGER NOT NULL DEFAULT 0, ram_used_bytes_sum INTEGER, ram_used_bytes_min INTEGER, ram_used_bytes_max INTEGER,
    ram_total_bytes_n INTEGER NOT NULL DEFAULT 0, ram_total_bytes_sum INTEGER, ram_total_bytes_min INTEGER, ram_total_bytes_max INTEGER,
    ram_available_bytes_n INTEGER NOT NULL DEFAULT 0, ram_available_bytes_sum INTEGER, ram_available_bytes_min INTEGER, ram_available_bytes_max INTEGER,
    disk_used_bytes_n INTEGER NOT NULL DEFAULT 0, disk_used_bytes_sum INTEGER, disk_used_bytes_min INTEGER, disk_used_bytes_max INTEGER,
    disk_total_bytes_n INTEGER NOT NULL DEFAULT 0, disk_total_bytes_sum INTEGER, disk_total_bytes_min INTEGER, disk_total_bytes_max INTEGER,
    uptime_s_n INTEGER NOT NULL DEFAULT 0, uptime_s_sum INTEGER, uptime_s_min INTEGER, uptime_s_max INTEGER,
    PRIMARY KEY (machine_id, at_s)
) STRICT, WITHOUT ROWID;

CREATE TABLE gpu_sample_1h (
    gpu_id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    vram_total_bytes_n INTEGER NOT NULL DEFAULT 0, vram_total_bytes_sum INTEGER, vram_total_bytes_min INTEGER, vram_total_bytes_max INTEGER,
    vram_used_bytes_n INTEGER NOT NULL DEFAULT 0, vram_used_bytes_sum INTEGER, vram_used_bytes_min INTEGER, vram_used_bytes_max INTEGER,
    vram_free_bytes_n INTEGER NOT NULL DEFAULT 0, vram_free_bytes_sum INTEGER, vram_free_bytes_min INTEGER, vram_free_bytes_max INTEGER,
    utilisation_n INTEGER NOT NULL DEFAULT 0, utilisation_sum INTEGER, utilisation_min INTEGER, utilisation_max INTEGER,
    temperature_c_n INTEGER NOT NULL DEFAULT 0, temperature_c_sum INTEGER, temperature_c_min INTEGER, temperature_c_max INTEGER,
    power_w_n INTEGER NOT NULL DEFAULT 0, power_w_sum INTEGER, power_w_min INTEGER, power_w_max INTEGER,
    PRIMARY KEY (gpu_id, at_s)
) STRICT, WITHOUT ROWID;

-- Minutes (tier 60) and hours (tier 3600) of a machine that have samples which no rollup holds yet.
CREATE TABLE rollup_due (
    tier       INTEGER NOT NULL,
    at_s       INTEGER NOT NULL,
    machine_id INTEGER NOT NULL,
    PRIMARY KEY (tier, at_s, machine_id)
) STRICT, WITHOUT ROWID;

-- Up to when the clock that ages samples has come, and up to when each tier was deleted.
CREATE TABLE retention (
    tier       TEXT PRIMARY KEY,       -- "clock", "raw", "1m", "1h"
    at_s       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id         INTEGER PRIMARY KEY,
    at_ms      INTEGER NOT NULL,
    machine_id INTEGER NOT NULL REFERENCES machine (id),
    type       TEXT NOT NULL,
    detail     TEXT NOT NULL           -- JSON object
) STRICT;
CREATE INDEX event_by_time ON event (at_ms);
CREATE INDEX event_by_machine ON event (machine_id, at_ms);
