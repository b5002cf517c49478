// The gateway's activity in the last minutes. They are kept in the tab, so that the charts are not
// empty when somebody has looked at another page.

const key = "posthorn.samples";
const most = 240;
const longGap = 30_000; // milliseconds without a sample that a chart shows as a gap

/** recall returns the samples that are kept, oldest first. */
export function recall() {
	try {
		return JSON.parse(sessionStorage.getItem(key)) ?? [];
	} catch {
		return [];
	}
}

/** append adds what the API says now, and returns all samples. */
export function append(activity) {
	const samples = [...recall(), sample(activity)].slice(-most);
	try {
		sessionStorage.setItem(key, JSON.stringify(samples));
	} catch {
		// The tab has no room; the charts begin anew on the next page.
	}
	return samples;
}

const sample = (a) => ({
	at: Date.parse(a.time),
	started: a.started,
	connections: a.connections,
	logins: a.logins,
	refusals: a.dropped ? { ...a.refusals, dropped: a.dropped } : a.refusals,
	handshakes: a.handshakes,
	bytes: { in: a.bytes_in, out: a.bytes_out },
});

/**
 * rates makes points of a group of counters: by how much each has grown a minute. Over
 * a gap, or a restart of the gateway, there is no rate.
 */
export function rates(samples, group) {
	return samples.map((s, i) => {
		const before = samples[i - 1];
		const elapsed = before ? s.at - before.at : 0;
		if (!before || elapsed <= 0 || elapsed > longGap || before.started !== s.started) {
			return { at: s.at, values: null };
		}
		const values = {};
		for (const [name, value] of Object.entries(s[group])) {
			values[name] = Math.max(0, (value - (before[group][name] ?? 0)) * 60_000 / elapsed);
		}
		return { at: s.at, values };
	});
}
