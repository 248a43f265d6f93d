-- What a user can still write: less than what is free where a part is kept for root.
ALTER TABLE sample ADD COLUMN disk_available_bytes INTEGER;
ALTER TABLE sample_1m ADD COLUMN disk_available_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sample_1m ADD COLUMN disk_available_bytes_sum INTEGER;
ALTER TABLE sample_1m ADD COLUMN disk_available_bytes_min INTEGER;
ALTER TABLE sample_1m ADD COLUMN disk_available_bytes_max INTEGER;
ALTER TABLE sample_10m ADD COLUMN disk_available_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sample_10m ADD COLUMN disk_available_bytes_sum INTEGER;
ALTER TABLE sample_10m ADD COLUMN disk_available_bytes_min INTEGER;
ALTER TABLE sample_10m ADD COLUMN disk_available_bytes_max INTEGER;
ALTER TABLE sample_1h ADD COLUMN disk_available_bytes_n INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sample_1h ADD COLUMN disk_available_bytes_sum INTEGER;
ALTER TABLE sample_1h ADD COLUMN disk_available_bytes_min INTEGER;
ALTER TABLE sample_1h ADD COLUMN disk_available_bytes_max INTEGER;
