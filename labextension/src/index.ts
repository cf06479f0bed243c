// Puts the panel and the line into JupyterLab, and into Notebook as far as it has the places.

import { ILabShell, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';
import { LabIcon } from '@jupyterlab/ui-components';

import '../style/index.css';
import { Bar } from './bar';
import { Model } from './model';
import { Panel } from './panel';

const OPEN = 'nightingale-hub:open';

const icon = new LabIcon({
  name: 'nightingale-hub:meter',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<path class="jp-icon3" fill="#616161" d="M12 3a10 10 0 0 0-9 14.4h2.3A8 8 0 1 1 18.7 17.4H21' +
    'A10 10 0 0 0 12 3zm5.2 4.7-4.6 5a2 2 0 1 0 1.3 1.2z"/></svg>'
});

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'nightingale-hub:plugin',
  description: 'The instance, its cost, and what is logged.',
  autoStart: true,
  optional: [ILabShell, IStatusBar, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    lab: ILabShell | null,
    statusBar: IStatusBar | null,
    palette: ICommandPalette | null
  ) => {
    const model = new Model();
    const panel = new Panel(model);
    panel.id = 'nightingale-hub-panel';
    panel.title.icon = icon;
    panel.title.caption = 'Nightingale: instance, cost, what is logged';
    app.shell.add(panel, 'right', { rank: 200, type: 'Nightingale' });
    app.commands.addCommand(OPEN, {
      label: 'Nightingale: Instance and Cost',
      describedBy: { args: { type: 'object', properties: {} } },
      icon,
      execute: () => app.shell.activateById(panel.id)
    });
    palette?.addItem({ command: OPEN, category: 'Nightingale' });
    if (lab !== null && statusBar !== null) {
      statusBar.registerStatusItem('nightingale-hub:bar', {
        item: new Bar(model, () => void app.commands.execute(OPEN)),
        align: 'left',
        rank: 900,
        priority: 1
      });
    }
  }
};

export default plugin;
