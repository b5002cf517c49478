// How numbers, sizes and times are written.
import { language } from "./texts.js";

const numbers = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "long" });

/** number writes a number, with a decimal where it is small. */
export const number = (n) => (Math.abs(n) < 100 ? numbers : whole).format(n);

/** size writes a number of bytes. */
export function size(bytes) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let unit = 0;
	while (bytes >= 1024 && unit < units.length - 1) {
		bytes /= 1024;
		unit++;
	}
	return `${numbers.format(bytes)} ${units[unit]}`;
}

const steps = [[60, "second"], [60, "minute"], [24, "hour"], [30.44, "day"], [12, "month"], [Infinity, "year"]];

/** ago writes how far a time (a Date) is from now: "3 minutes ago", "in 2 days". */
export function ago(at, now = new Date()) {
	let distance = (at - now) / 1000;
	for (const [size, unit] of steps) {
		if (Math.abs(distance) < size) {
			return relative.format(Math.trunc(distance), unit);
		}
		distance /= size;
	}
	return "";
}

/** moment writes a time to the second, in UTC. */
export const moment = (at) => `${at.toISOString().slice(0, 10)} ${clock(at)}`;

/** clock writes the time of day to the second, in UTC. */
export const clock = (at) => `${at.toISOString().slice(11, 19)} UTC`;

/** day writes the day of a time, as date fields have it. */
export const day = (at) => at.toISOString().slice(0, 10);
