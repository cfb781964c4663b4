// Open a notebook in JupyterLab, choose "Run > Run All Cells" and wait until every cell has run.
// usage: node lab.mjs URL SCREENSHOT CHROMIUM      prints one line of JSON: {cells, ran, pictures, errors}
import { createRequire } from "node:module";
const { chromium } = createRequire(import.meta.url)("playwright-core");

const [url, screenshot, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  await page.goto(url);
  await page.waitForSelector(".jp-Notebook .jp-Cell", { timeout: 90_000 });
  await page.waitForSelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', { timeout: 90_000 });
  await page.waitForTimeout(3000);               // a click at the first "idle" would run only one cell
  await page.click('.lm-MenuBar-item:has-text("Run")');
  await page.click('.lm-Menu-item[data-command="runmenu:run-all"]');
  const state = () => page.evaluate(() => {
    const widget = window.jupyterapp.shell.currentWidget;
    const code = [...widget.content.model.cells].filter((cell) => cell.type === "code" && cell.toJSON().source.length);
    const outputs = code.flatMap((cell) => cell.toJSON().outputs);
    return {
      cells: code.length,
      ran: code.filter((cell) => cell.executionCount !== null).length,
      pictures: outputs.filter((output) => output.data && output.data["image/png"]).length,
      errors: outputs.filter((output) => output.output_type === "error").map((output) => output.evalue),
      busy: widget.sessionContext.session.kernel.status !== "idle",
    };
  });
  const end = Date.now() + 600_000;
  let seen = await state();
  while ((seen.ran < seen.cells || seen.busy) && !seen.errors.length && Date.now() < end) {
    await page.waitForTimeout(1000);
    seen = await state();
  }
  const pictures = page.locator(".jp-Notebook .jp-OutputArea-output img");
  if (await pictures.count()) await pictures.last().scrollIntoViewIfNeeded();
  await page.waitForTimeout(1000);
  await page.screenshot({ path: screenshot });
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
