// The one place that asks: a poll every two seconds, and what it last heard.

import { ServerConnection } from '@jupyterlab/services';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { ask, Status } from './api';

const PAUSE_MS = 2000;
const MAX_PAUSE_MS = 10_000;
/** A figure is called old after two answers that did not come. */
const MISSED = 2;

export class Model {
  readonly settings = ServerConnection.makeSettings();
  /** The last answer, or null before the first. */
  status: Status | null = null;
  /** When it came, on the browser's clock. */
  heardMs = 0;
  /** Why the last question was not answered, or an empty text. */
  error = '';
  private missed = 0;
  private readonly changes = new Signal<this, void>(this);
  private readonly poll: Poll;

  constructor() {
    this.poll = new Poll({
      name: 'nightingale-hub:status',
      factory: () => this.look(),
      frequency: { interval: PAUSE_MS, backoff: true, max: MAX_PAUSE_MS },
      standby: 'when-hidden'
    });
  }

  /** Emitted after each answer and each that did not come. */
  get changed(): ISignal<this, void> {
    return this.changes;
  }

  /** Whether what is shown may be out of date. */
  get isOld(): boolean {
    return this.missed >= MISSED;
  }

  /** Ask now, rather than at the next turn. */
  async refresh(): Promise<void> {
    await this.poll.refresh();
  }

  private async look(): Promise<void> {
    try {
      this.status = await ask<Status>(this.settings, 'GET', 'status');
      this.heardMs = Date.now();
      this.error = '';
      this.missed = 0;
    } catch (reason) {
      this.error = String((reason as Error).message);
      this.missed += 1;
      throw reason; // so that the poll backs off
    } finally {
      this.changes.emit();
    }
  }
}
