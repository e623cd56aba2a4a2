// Drives the auditor's pages in Debian's Chromium: each page, each flow, by keyboard, on a phone, on paper, light and dark.
// Usage: node pages.mjs ADDRESS TOKEN PICTURES; NODE_PATH names where playwright-core and axe-core are.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH ?? ".", "x"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [address, token, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });
const origin = new URL(address).origin;
const wrong = [];

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

async function open(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) wrong.push(`a request left for ${request.url()}`);
  });
  // What a policy refuses is said on the console; so is whatever fails. axe itself is put in past the policy.
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 40[134]/.test(message.text())) wrong.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error}`));
  return page;
}

async function look(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) wrong.push(`${name}: ${wide} pixels wider than its window`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run());
  for (const { id, impact, nodes } of found.violations) {
    if (["serious", "critical"].includes(impact)) wrong.push(`${name}: ${id}: ${nodes[0].html.slice(0, 160)}: ${nodes[0].failureSummary}`);
  }
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

// Of the top of a page: small enough for README.
async function forReadme(page, name, height) {
  await page.screenshot({ path: join(pictures, `readme-${name}.png`), clip: { x: 0, y: 0, width: 1280, height } });
}

async function signIn(page, to = "/") {
  await page.goto(origin + to);
  await page.fill("#token", token);
  await page.press("#token", "Enter");
  await page.waitForSelector("header nav");
}

function must(holds, says) {
  if (!holds) wrong.push(says);
}

// Sign in, find frank, follow a grant to its last record.
const page = await open({ colorScheme: "light" });
await page.goto(origin);
await look(page, "sign-in");
await page.fill("#token", "ca_auditor_wrong");
await page.press("#token", "Enter");
await page.waitForSelector("[role=alert]");
await look(page, "sign-in-wrong");
await signIn(page);
await look(page, "overview");
await forReadme(page, "overview", 680);
await page.fill("#q", "frank");
await page.press("#q", "Enter");
await page.waitForURL("**/people/frank");
must(await page.locator(".timeline .granted").count() > 1, "frank's grants are drawn");
must((await page.locator("time").first().getAttribute("title"))?.includes("where you are"), "the reader's own time is beside each");
await look(page, "person");
await forReadme(page, "person", 640);
const link = await page.locator("a.id[href^='/grants/']").first().getAttribute("href");
await page.goto(origin + link);
must(await page.locator(".steps li").count() >= 2, "a grant's steps are listed");
await look(page, "grant");
await page.locator(".steps a.id[href^='/records/']").last().click();
await page.waitForSelector("dl.facts");
await look(page, "record");
for (const [name, path] of [["stack", "/stacks/web"], ["host", "/hosts/web-3"], ["host-timeline", "/hosts/web-1"], ["requirements", "/requirements"],
  ["requirement", "/requirements/164.312(d)"], ["review", "/review"], ["incidents", "/incidents"], ["search", "/search?q=INC"],
  ["search-nothing", "/search?q=nobody-such"], ["not-found", "/hosts/none"], ["person-empty", "/people/frank?from=2025-01-01&to=2025-02-01"],
  ["year", "/people/frank?from=" + new Date(Date.now() - 3.1e10).toISOString().slice(0, 10)]]) {
  await page.goto(origin + path);
  await look(page, name);
}
// The picture leads closer.
await page.goto(origin + "/people/frank");
await page.locator(".timeline svg a:has(text.moment)").first().click();
await page.waitForURL("**from=**");

// By keyboard alone: to the page past the menu, then to the search and back out.
await page.goto(origin);
await page.keyboard.press("Tab");
must(await page.evaluate(() => document.activeElement.className) === "skip", "the first stop leads past the menu");
for (let stops = 0; stops < 20; stops++) {
  if (await page.evaluate(() => document.activeElement.id) === "q") break;
  await page.keyboard.press("Tab");
}
await page.keyboard.type("web-2");
await page.keyboard.press("Enter");
await page.waitForURL("**/hosts/web-2");
must(await page.evaluate(() => [...document.querySelectorAll("main a")].every((a) => a.tabIndex >= 0)), "every link is a stop");

// On paper.
await page.goto(origin + "/people/frank");
await page.emulateMedia({ media: "print" });
await look(page, "print");

// A phone, in the dark.
const phone = await open({ viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true });
await signIn(phone, "/people/frank");
await look(phone, "phone-person");
for (const [name, path] of [["phone-overview", "/"], ["phone-grant", link], ["phone-review", "/review"]]) {
  await phone.goto(origin + path);
  await look(phone, name);
}
const dark = await open({ colorScheme: "dark" });
await signIn(dark);
await look(dark, "dark-overview");
await dark.goto(origin + "/people/frank");
await look(dark, "dark-person");
const plain = await open({ javaScriptEnabled: false });
await signIn(plain, "/people/frank");
must(await plain.locator(".timeline svg").count() > 0, "pages work without a script");

// Out again.
await page.emulateMedia({ media: "screen" });
await page.goto(origin);
await page.click("form.out button");
await page.waitForURL("**/sign-in");
await page.goto(origin + "/people/frank");
must(page.url().includes("/sign-in"), "who is signed out reads nothing");

await browser.close();
for (const one of wrong) console.error(one);
console.log(wrong.length === 0 ? "the pages hold" : `${wrong.length} things are wrong`);
process.exit(wrong.length === 0 ? 0 : 1);
