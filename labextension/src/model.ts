// The one place that asks: a poll every two seconds, and what it last heard.

import { Notification } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { ask, Notice, Status } from './api';

const PAUSE_MS = 2000;
const MAX_PAUSE_MS = 10_000;
const NOTICES_PAUSE_MS = 10_000;
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
  private readonly notices: Poll;
  private lastNotice: number | null = null;

  constructor() {
    this.poll = new Poll({
      name: 'nightingale-hub:status',
      factory: () => this.look(),
      // No backoff: what is shown is called old soon, and fresh soon again.
      frequency: { interval: PAUSE_MS, backoff: false, max: MAX_PAUSE_MS },
      standby: 'when-hidden'
    });
    this.notices = new Poll({
      name: 'nightingale-hub:notices',
      factory: () => this.lookForNotices(),
      frequency: { interval: NOTICES_PAUSE_MS, backoff: true, max: 6 * NOTICES_PAUSE_MS },
      standby: 'never'
    });
  }

  /** Stop asking. */
  dispose(): void {
    this.poll.dispose();
    this.notices.dispose();
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

  // What was told before this page opened is on the hub's page; here only what is new.
  private async lookForNotices(): Promise<void> {
    const after = this.lastNotice ?? 0;
    const answer = await ask<{ notices: Notice[] }>(
      this.settings,
      'GET',
      `notices?after=${after}`
    );
    const isFirst = this.lastNotice === null;
    this.lastNotice = Math.max(after, ...answer.notices.map(each => each.id));
    if (!isFirst) {
      for (const each of answer.notices.reverse()) {
        const type = each.kind === 'run' ? 'info' : 'warning';
        Notification.emit(`${each.subject}: ${each.body}`, type, { autoClose: false });
      }
    }
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
      throw reason;
    } finally {
      this.changes.emit();
    }
  }
}
