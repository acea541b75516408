-- One call: rows of views of one bucket, then the bucket's offsets. Positions decide here, so order and repeats do not matter.
--
-- KEYS[1]  the bucket's offsets; every other key of the call carries the same hash tag
-- ARGV[1]  one MessagePack array, which costs client and server less than as many arguments:
--          base, now (ms), n sections, then the sections, then the moves
-- section  kind, view, n columns, (name, name as JSON) of each, length of the rows, the rows
-- row      key, position, state, values; state is "" (every column has a value), "d" (delete; one value: the delete's
--          origin) or a letter per column: v a value follows, n null, u unavailable, a absent
-- move     field, what it must hold, what it shall hold
-- answer   rows that changed something; moves refused, as (index, what the field holds); what entities must be told
--
-- Kinds: f, a row is an entity and its hash is read by anyone; r, rows that share entities, each with its entity in
-- column `.e`; e, what such a row is now, told to an entity. After a row of r the answer has: view, key, stamp, its
-- entity (nothing if none), the entities it has left as JSON, its order, and its fields. A row of e has: entity, key,
-- stamp, order, number of fields, fields; none if the row is no longer there.
--
-- Truth, for one key: D is its highest delete, P its highest other position. It lives if P >= D. A column has what the
-- highest change at or above D says of it, else it is unavailable. docs/redis.md has the fields.

local call, byte, sub = redis.call, string.byte, string.sub
local args = cmsgpack.unpack(ARGV[1])
local base, now = args[1], args[2]
local applied, at = 0, 4
local told = {}
local LEFT_MAX = 32
local VALUE, NULL, UNAVAILABLE = 118, 110, 117

-- What a state means for writing: which columns carry values, the text of `.null`, and whether the quick way is open.
local function shape_of(state, columns, quoted)
  local shape = { fields = {}, quick = true, null = false }
  local nulls = {}
  for i = 1, #columns do
    local letter = state == '' and VALUE or byte(state, i)
    if letter == VALUE then
      shape.fields[#shape.fields + 1] = columns[i]
    elseif letter == NULL then
      nulls[#nulls + 1] = quoted[i]
    elseif letter == UNAVAILABLE then
      shape.partial = true
    else
      shape.quick = false
    end
  end
  if #nulls > 0 then
    shape.null = '[' .. table.concat(nulls, ',') .. ']'
  end
  return shape
end

local function names_in(list)
  local set = {}
  if list then
    for _, name in ipairs(cjson.decode(list)) do
      set[name] = true
    end
  end
  return set
end

-- The row as it stands: per column its value (false: null, nil: none) and where it is from ('' if unavailable).
local function read_row(key, columns)
  local flat, hash = call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    hash[flat[i]] = flat[i + 1]
  end
  local null, unavailable = names_in(hash['.null']), names_in(hash['.unavailable'])
  local row = { p = hash['.p'], d = hash['.d'] or '', value = {}, from = {} }
  for _, name in ipairs(columns) do
    row.from[name] = unavailable[name] and '' or hash['.p.' .. name] or row.p
    row.value[name] = hash[name]
    if null[name] then
      row.value[name] = false
    end
  end
  return row
end

local function write_row(key, row, columns, quoted)
  local out, nulls, unavailable, own = { '.v', '1', '.p', row.p }, {}, {}, {}
  if row.d ~= '' then
    out[#out + 1] = '.d'
    out[#out + 1] = row.d
  end
  for i, name in ipairs(columns) do
    local from, value = row.from[name] or '', row.value[name]
    if from ~= row.p then
      own[#own + 1] = quoted[i]
    end
    if from == '' then
      unavailable[#unavailable + 1] = quoted[i]
    else
      if from ~= row.p then
        out[#out + 1] = '.p.' .. name
        out[#out + 1] = from
      end
      if value then
        out[#out + 1] = name
        out[#out + 1] = value
      elseif value == false then
        nulls[#nulls + 1] = quoted[i]
      end
    end
  end
  for name, list in pairs({ ['.null'] = nulls, ['.unavailable'] = unavailable, ['.own'] = own }) do
    if #list > 0 then
      out[#out + 1] = name
      out[#out + 1] = '[' .. table.concat(list, ',') .. ']'
    end
  end
  call('DEL', key)
  call('HSET', key, unpack(out))
end

-- Take from a change what it says of columns that the row has from older ones, or not at all.
local function fill(row, columns, state, position, v)
  local changed = false
  for i, name in ipairs(columns) do
    local letter, value = state == '' and VALUE or byte(state, i), nil
    if letter == VALUE then
      value = args[v]
      v = v + 1
    elseif letter == NULL then
      value = false
    end
    if letter ~= UNAVAILABLE and (row.from[name] or '') < position then
      row.from[name], row.value[name], changed = position, value, true
    end
  end
  return changed
end

-- A change that says something of some columns only, or that is older than the row and may still fill what it lacks.
local function merge(key, columns, quoted, state, position, first)
  local row = read_row(key, columns)
  local newer, changed = position > row.p, fill(row, columns, state, position, first)
  if newer then row.p = position end
  if newer or changed then
    write_row(key, row, columns, quoted)
  end
  return newer or changed
end

-- The first change of a key, or of one that was deleted before (`deleted` is the position of that).
local function create(key, columns, quoted, state, shape, position, deleted, first)
  if shape.partial then
    local row = { p = position, d = deleted, value = {}, from = {} }
    fill(row, columns, state, position, first)
    return write_row(key, row, columns, quoted)
  end
  local out = { '.p', position, '.v', '1' }
  for i, name in ipairs(shape.fields) do
    out[#out + 1] = name
    out[#out + 1] = args[first + i - 1]
  end
  if shape.null then
    out[#out + 1] = '.null'
    out[#out + 1] = shape.null
  end
  if deleted ~= '' then
    out[#out + 1] = '.d'
    out[#out + 1] = deleted
  end
  call('HSET', key, unpack(out))
end

local function tombstone_position(tombstones, id)
  local text = call('HGET', tombstones, id)
  return text and sub(text, 1, string.find(text, '|', 1, true) - 1) or ''
end

local function delete(key, id, tombstones, columns, quoted, position, origin)
  local have = call('HMGET', key, '.p', '.d')
  if have[1] and have[1] >= position then -- late: the row lives on, without what was from before the delete
    if (have[2] or '') >= position then
      return false
    end
    local row = read_row(key, columns)
    row.d = position
    for _, name in ipairs(columns) do
      if row.from[name] < position then
        row.from[name], row.value[name] = '', nil
      end
    end
    write_row(key, row, columns, quoted)
    return true
  end
  if not have[1] and tombstone_position(tombstones, id) >= position then
    return false
  end
  call('DEL', key)
  call('HSET', tombstones, id, position .. '|' .. origin .. '|' .. now)
  return true
end

-- What an entity must know of a row after a change, applied or not: a repeat tells it again, in case it was lost.
local function tell(view, id, key, tombstones, columns, before)
  local flat, hash, fields = call('HGETALL', key), {}, {}
  for i = 1, #flat, 2 do
    hash[flat[i]] = flat[i + 1]
  end
  local entity = hash['.e'] or false
  local left_key = base .. 'm:' .. view
  local text = call('HGET', left_key, id)
  if before and before ~= entity then
    local left = {}
    for _, name in ipairs(text and cjson.decode(text) or {}) do
      if name ~= before then
        left[#left + 1] = name
      end
    end
    left[#left + 1] = before
    if #left > LEFT_MAX then table.remove(left, 1) end
    text = cjson.encode(left)
    call('HSET', left_key, id, text)
  end
  local stamp = hash['.p']
  if stamp then -- grows with every change of the row, and is the same however it came about
    local zero = string.rep('0', #stamp)
    local parts = { stamp, hash['.d'] or zero }
    local unavailable = names_in(hash['.unavailable'])
    for _, name in ipairs(columns) do
      parts[#parts + 1] = unavailable[name] and zero or hash['.p.' .. name] or stamp
    end
    stamp = table.concat(parts)
    for i = 1, #flat, 2 do
      local name = flat[i]
      if byte(name) ~= 46 or name == '.p' or name == '.t' or name == '.v' or name == '.null' or name == '.unavailable' then
        fields[#fields + 1] = name
        fields[#fields + 1] = flat[i + 1]
      end
    end
  else
    stamp = tombstone_position(tombstones, id)
  end
  told[#told + 1] = { view, id, stamp, entity, text or '[]', hash['.s'] or '', fields }
end

-- An entity shows the row with the highest order (event time), then position, then key.
local function above(a, b)
  if a.order ~= b.order then return a.order > b.order end
  if a.position ~= b.position then return a.position > b.position end
  return a.id > b.id
end

local function position_in(fields)
  for i = 1, #fields, 2 do
    if fields[i] == '.p' then
      return fields[i + 1]
    end
  end
end

local function show(key, row)
  call('DEL', key)
  if row then
    local out = row.fields
    for _, part in ipairs({ '.k', row.id, '.s', row.order }) do
      out[#out + 1] = part
    end
    call('HSET', key, unpack(out))
  end
end

local function best_of(ledger)
  local flat, best = call('HGETALL', ledger), nil
  for i = 1, #flat, 2 do
    local held = cmsgpack.unpack(flat[i + 1])
    if held[3] then
      local row = { id = flat[i], order = held[2], fields = held[3], position = position_in(held[3]) }
      if not best or above(row, best) then
        best = row
      end
    end
  end
  return best
end

local function apply_told(view)
  local entity, id, stamp, order, count = args[at], args[at + 1], args[at + 2], args[at + 3], tonumber(args[at + 4])
  local first = at + 5
  at = first + count
  local ledger, key = base .. 'e:' .. view .. ':' .. entity, base .. 'f:' .. view .. ':' .. entity
  local text = call('HGET', ledger, id)
  if text and cmsgpack.unpack(text)[1] >= stamp then return end
  if not text and count == 0 then -- also what an entity never saw may come later, and older
    call('HSET', ledger, id, cmsgpack.pack({ stamp, '', false }))
    return
  end
  applied = applied + 1
  local fields = count > 0 and { unpack(args, first, at - 1) }
  call('HSET', ledger, id, cmsgpack.pack({ stamp, order, fields }))
  local shown = call('HMGET', key, '.k', '.s', '.p')
  local row = fields and { id = id, order = order, fields = fields, position = position_in(fields) }
  local top = shown[1] and { id = shown[1], order = shown[2], position = shown[3] }
  if row and (not top or above(row, top)) then
    show(key, row)
  elseif top and top.id == id then
    show(key, best_of(ledger))
  end
end

local function upsert(section, key, id, position, state, shape, first)
  local columns, quoted = section.columns, section.quoted
  local have = call('HMGET', key, '.p', '.null', '.own') -- each field looked up costs
  local p = have[1]
  if not p then
    local deleted = section.buried and tombstone_position(section.tombstones, id) or ''
    if position < deleted then return false end
    create(key, columns, quoted, state, shape, position, deleted, first)
    if deleted ~= '' then
      call('HDEL', section.tombstones, id)
    end
    return true
  elseif position > p and not shape.partial then
    if shape.quick and have[2] == shape.null and not have[3] then
      local fields, slots, w = shape.fields, section.slots, 2
      slots[1], slots[2] = '.p', position
      for i = 1, #fields do
        slots[w + 1], slots[w + 2] = fields[i], args[first + i - 1]
        w = w + 2
      end
      call('HSET', key, unpack(slots, 1, w))
    else
      local deleted = call('HGET', key, '.d') or ''
      call('DEL', key)
      create(key, columns, quoted, state, shape, position, deleted, first)
    end
    return true
  elseif position > p or (position < p and have[3] and position >= (call('HGET', key, '.d') or '')) then
    return merge(key, columns, quoted, state, position, first)
  end
  return false
end

local function read_section(kind, view, count)
  local columns, quoted = {}, {}
  for i = 1, count do
    columns[i], quoted[i] = args[at], args[at + 1]
    at = at + 2
  end
  local tombstones = base .. 'x:' .. view
  return {
    columns = columns, quoted = quoted, prefix = base .. kind .. ':' .. view .. ':', shapes = {}, tombstones = tombstones,
    buried = call('EXISTS', tombstones) == 1,
    slots = {}, -- one table for all rows: `.p`, position, name, value, …
  }
end

local function apply_section()
  local kind, view, count = args[at], args[at + 1], args[at + 2]
  at = at + 3
  local section = read_section(kind, view, count)
  local columns, quoted, shapes, tombstones = section.columns, section.quoted, section.shapes, section.tombstones
  local stop = at + 1 + args[at]
  at = at + 1
  while kind == 'e' and at < stop do
    apply_told(view)
  end
  while at < stop do
    local id, position, state, first = args[at], args[at + 1], args[at + 2], at + 3
    local key = section.prefix .. id
    local before, changed = kind == 'r' and call('HGET', key, '.e'), nil
    if state == 'd' then
      at = first + 1
      changed = delete(key, id, tombstones, columns, quoted, position, args[first])
      section.buried = section.buried or changed
    else
      local shape = shapes[state] or shape_of(state, columns, quoted)
      shapes[state] = shape
      at = first + #shape.fields
      changed = upsert(section, key, id, position, state, shape, first)
    end
    applied = applied + (changed and 1 or 0)
    if kind == 'r' then
      tell(view, id, key, tombstones, columns, before)
    end
  end
end

for _ = 1, args[3] do
  apply_section()
end

local refused, index = {}, 0
while at < #args do
  local held = call('HGET', KEYS[1], args[at])
  if held == args[at + 1] then
    call('HSET', KEYS[1], args[at], args[at + 2])
  elseif held ~= args[at + 2] then
    refused[#refused + 1] = index
    refused[#refused + 1] = held
  end
  index = index + 1
  at = at + 3
end
return { applied, refused, told }
