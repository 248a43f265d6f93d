// The values from which a reading is marked as high. Nothing here touches the page.

import { isKnown } from "../base/format.js";
import { diskShare } from "./machine_facts.js";

/** VRAM, RAM and disks are high when at least this share, of 1, is used. */
const HIGH_SHARE = 0.9;
/** GPUs of all makers slow themselves down somewhat above this temperature. */
const HOT_C = 85;

/** Put before a high value, so that it is seen without its colour. */
export const MARK = "▲";

export const isHighShare = (share) => share >= HIGH_SHARE;
export const isHot = (celsius) => isKnown(celsius) && celsius >= HOT_C;

/** A text with the mark before it if its value is high. */
export const marked = (text, isHigh) => (isHigh ? `${MARK}\u202f${text}` : text);

/** The used share of the RAM, of 1; NaN if unknown. */
export const ramShare = ({ ram_used_gb: used, ram_total_gb: total }) => (isKnown(used) && total ? used / total : NaN);

/** What an operator should look at in the readings of a machine: ["the disk is 97 % full", ...]. */
export function highReadings(telemetry) {
  const full = [
    ["the disk", diskShare(telemetry)],
    ["RAM", ramShare(telemetry)],
  ].filter(([, share]) => isHighShare(share));
  const hot = (telemetry.gpu ?? []).filter((gpu) => isHot(gpu.temperature_c));
  return [
    ...full.map(([what, share]) => `${what} is ${Math.floor(share * 100)} % full`),
    ...hot.map(({ index, temperature_c: celsius }) => `GPU ${index} is at ${celsius} °C`),
  ];
}
