// Asking again and again, as long as somebody looks.

const slowest = 60;

/**
 * Poll runs a function now and then. It stops while the page is hidden, and waits
 * longer and longer as long as the function fails.
 */
export class Poll {
	#timer = 0;
	#running = null; // AbortController of the run
	#failures = 0;
	#on = false;

	/**
	 * run is called with a signal that ends when its result is of no use any more.
	 * failed is called with its error and in how many seconds it is tried again.
	 */
	constructor(run, seconds, failed) {
		this.run = run;
		this.seconds = seconds;
		this.failed = failed;
		document.addEventListener("visibilitychange", () => this.#look());
	}

	start() {
		this.#on = true;
		return this.now();
	}

	/** again is now, unless it has been stopped. */
	again() {
		if (this.#on) {
			this.now();
		}
	}

	stop() {
		this.#on = false;
		this.#cancel();
	}

	/** now runs the function at once, and ends the run that is under way. */
	async now() {
		this.#cancel();
		const mine = new AbortController();
		this.#running = mine;
		let wait = this.seconds;
		try {
			await this.run(mine.signal);
			this.#failures = 0;
		} catch (e) {
			if (mine.signal.aborted) {
				return;
			}
			this.#failures++;
			wait = Math.max(Math.min((this.seconds || 5) * 2 ** this.#failures, slowest), e.retryAfter ?? 0);
			wait *= 0.8 + 0.4 * Math.random(); // so that many do not come at once
			this.failed(e, Math.round(wait));
		}
		if (this.#running === mine) {
			this.#running = null;
			this.#later(wait);
		}
	}

	#later(seconds) {
		if (this.#on && !document.hidden && seconds > 0) {
			this.#timer = setTimeout(() => this.now(), seconds * 1000);
		}
	}

	#cancel() {
		clearTimeout(this.#timer);
		this.#running?.abort();
		this.#running = null;
	}

	#look() {
		if (document.hidden) {
			this.#cancel();
		} else if (this.#on) {
			this.now();
		}
	}
}
