// Records what SAF says to each case of cases.json. In an empty folder:
//
//   npm install @mitre/saf@1.5.3
//   node PATH/testdata/saf/record.js PATH/testdata/saf
const fs = require('fs'), os = require('os'), path = require('path')
const root = path.resolve('node_modules/@mitre/saf')
const Threshold = require(path.join(root, 'lib/commands/validate/threshold.js')).default

async function main(dir) {
  const file = path.join(dir, 'cases.json')
  const template = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'saf-')), 'threshold.yaml')
  const cases = JSON.parse(fs.readFileSync(file))
  const {log, error} = console
  for (const c of cases) {
    fs.writeFileSync(template, c.threshold)
    const lines = []
    console.log = console.error = (...words) => lines.push(words.join(' '))
    try {
      await Threshold.run(['-i', path.join(dir, c.results + '.json'), '-T', template], root)
    } finally {
      Object.assign(console, {log, error})
    }
    c.says = lines[0]
  }
  process.exitCode = 0
  fs.writeFileSync(file, '[\n' + cases.map(c => JSON.stringify(c)).join(',\n') + '\n]\n')
}

main(process.argv[2])
