// The client of Xen Orchestra, driven once through what a backup needs. Prints one line of JSON.
// node foreign_xen_api.mjs <directory of xen-api> <url> <user> <password> <VM's name>
import { pathToFileURL } from 'node:url'
import { createHash } from 'node:crypto'

const [, , directory, url, user, password, name] = process.argv
const { createClient } = await import(pathToFileURL(`${directory}/index.mjs`))

const found = {}
const xapi = createClient({ url, auth: { user, password }, allowUnauthorized: true })
xapi.on('error', error => { found.error = String(error) })
await xapi.connect()
await xapi.objectsFetched

const all = () => Object.values(xapi.objects.all)
const vm = all().find(object => object.$type === 'VM' && object.name_label === name)
found.product = xapi.pool.$master.software_version.product_version
found.disks = vm.$VBDs.filter(vbd => vbd.type === 'Disk').map(vbd => vbd.$VDI.$SR.$PBDs[0].$host.$ref)
found.classes = [...new Set(all().map(object => object.$type))].sort()

// an object's change comes back through the events
const changed = new Promise(resolve => xapi.objects.on('update', objects => {
  if (Object.values(objects).some(object => object?.name_description === 'seen & <shown>')) resolve(true)
}))
await xapi.call('VM.set_name_description', vm.$ref, 'seen & <shown>')
found.watched = await changed
await xapi.barrier()

const snapshot = await xapi.callAsync('VM.snapshot', vm.$ref, 'by xen-api')
const record = await xapi.getRecord('VM', snapshot)
found.snapshotOf = record.snapshot_of === vm.$ref
const vbds = await Promise.all(record.VBDs.map(ref => xapi.getRecord('VBD', ref)))
const source = vbds.find(vbd => vbd.type === 'Disk').VDI
const { virtual_size: size, SR } = await xapi.getRecord('VDI', source)

const response = await xapi.getResource('/export_raw_vdi/', { query: { vdi: source, format: 'vhd' }, task: true })
const pieces = []
for await (const piece of response.body) pieces.push(piece)
const body = Buffer.concat(pieces)
found.exported = body.length

const target = await xapi.call('VDI.create', {
  SR, virtual_size: size, name_label: 'put', name_description: '', type: 'user', sharable: false, read_only: false,
  other_config: {}, xenstore_data: {}, sm_config: {}, tags: [],
})
const { Readable } = await import('node:stream')
const stream = Readable.from([body], { objectMode: false })
stream.length = body.length
await xapi.putResource(stream, '/import_raw_vdi/', { query: { vdi: target, format: 'vhd' }, task: true })
found.source = source
found.target = target
found.digest = createHash('sha256').update(body).digest('hex')

await xapi.callAsync('VM.destroy', snapshot)
await xapi.callAsync('VDI.destroy', source).catch(error => { found.destroy = error.code })
await xapi.disconnect()
console.log(JSON.stringify(found))
