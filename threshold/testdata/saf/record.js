// Records what SAF says to each case of DIR/cases.json, and what it generates.
// Where internal/ci/deps installed SAF (npm install @mitre/saf@1.5.3):
//
//   node PATH/testdata/saf/record.js DIR
const fs = require('fs'), os = require('os'), path = require('path')
const root = path.resolve('node_modules/@mitre/saf')
const Threshold = require(path.join(root, 'lib/commands/validate/threshold.js')).default
const Generate = require(path.join(root, 'lib/commands/generate/threshold.js')).default

// run is the first line that a command writes, or "crash" if that is an
// exception.
async function run(command, args) {
  const {log, error} = console
  const lines = []
  console.log = console.error = (...words) => lines.push(words.join(' '))
  try {
    await command.run(args, root)
  } finally {
    Object.assign(console, {log, error})
  }
  return /^ +\w*Error: /.test(lines[0]) ? 'crash' : lines[0]
}

async function main(dir) {
  const file = path.join(dir, 'cases.json')
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'saf-'))
  const template = path.join(work, 'threshold.yaml')
  const cases = JSON.parse(fs.readFileSync(file))
  for (const c of cases) {
    const input = ['-i', path.join(dir, c.results + '.json')]
    if (c.generate) {
      c.says = await run(Generate, [...input, ...c.generate, '-o', template]) ?? fs.readFileSync(template, 'utf8')
    } else {
      fs.writeFileSync(template, c.threshold)
      c.says = await run(Threshold, [...input, '-T', template])
    }
  }
  fs.rmSync(work, {recursive: true})
  process.exitCode = 0
  fs.writeFileSync(file, '[\n' + cases.map(c => JSON.stringify(c)).join(',\n') + '\n]\n')
}

main(process.argv[2])
