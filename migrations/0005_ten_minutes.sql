-- Rollups of ten minutes, made from those of minutes; hours are made from them. As in 0002, at_s is the beginning.

CREATE TABLE sample_10m (
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

CREATE TABLE gpu_sample_10m (
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

-- Ten minutes (tier 600) that have minutes already are due; until each is made, its minutes answer. Of a time whose
-- minutes were deleted, if only in part, none are made, and its hours stay as they are.
INSERT INTO rollup_due (tier, at_s, machine_id)
SELECT DISTINCT 600, at_s / 600 * 600, machine_id FROM sample_1m
WHERE at_s >= coalesce((SELECT at_s FROM retention WHERE tier = '1m'), 0);
