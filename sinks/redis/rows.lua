-- One call: rows of views of one bucket, then the bucket's offsets. Positions decide here, so order and repeats do not matter.
-- The script is outbox.lua, rows.lua, floors.lua and those behind it, as ledger.py has them.
--
-- KEYS[1]  the bucket's offsets; every other key of the call carries the same hash tag
-- ARGV[1]  one MessagePack array, which costs client and server less than as many arguments:
--          base, now (ms), n sections, the server's life, a new incarnation, bytes of the outbox at most (0: no view of
--          the call emits), n moves, then the sections, then the moves
-- section  kind, view, what its updates say of it ("": it emits none), n columns, (name, name as JSON) of each, length of
--          the rows, the rows
-- row      key, position, state, values; state is "" (every column has a value), "d" (delete; one value: the delete's
--          origin), "s" (what the floor leaves of it: no values, its position is the floor's) or a letter per column: v a
--          value follows, n null, u unavailable, a absent; behind it, where the view emits, the cause of its updates
-- move     field, what it must hold, what it shall hold
-- answer   rows that changed something; moves refused, as (index, what the field holds); what entities must be told; how
--          many updates were appended; what new keys must be given (handover.lua). OUTBOXFULL if there was no room for them,
--          OUTBOXBEHIND if a view emits and a field holds less than it must: then nothing was written
--
-- Kinds: l, no rows but a floor, and what updates say of their cause; f, a row is an entity and its hash is read by anyone; r, rows that share entities, each with its entity in
-- column `.e`; e, what such a row is now, told to an entity. Behind an h, g or m, f and r are steps of a change of a key
-- (handover.lua). After a row of r the answer has: view, key, stamp, its
-- entity (nothing if none), the entities it has left as JSON, its order, its fields, and where the view emits the cause and
-- its position. A row of e has: entity, key, stamp, order, number of fields, fields, none if the row is no longer there; and the cause where the view emits.
--
-- Truth, for one key: D is its highest delete, P its highest other position. It lives if P >= D. A column has what the
-- highest change at or above D says of it, else it is unavailable. docs/redis.md has the fields.

local call, byte, sub = redis.call, string.byte, string.sub
local args = cmsgpack.unpack(ARGV[1])
local base, now = args[1], args[2]
local applied, at = 0, 8
local told = {}
local outbox = args[6] > 0 and outbox_of(base, args[4], args[5], args[6])
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

-- A position without the generation behind it.
local function digits_of(position)
  return string.match(position, '^%d*')
end

-- The position that the text of a tombstone begins with; empty where there is none.
local function deleted_at(tombstone)
  return tombstone and sub(tombstone, 1, string.find(tombstone, '|', 1, true) - 1) or ''
end

local function tombstone_position(tombstones, id)
  return deleted_at(call('HGET', tombstones, id))
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
  local text = not have[1] and call('HGET', tombstones, id)
  local deleted = deleted_at(text)
  if text and deleted >= position then
    return false
  end
  local again = text and digits_of(deleted) == digits_of(position) -- the same delete: nobody sees anything of it
  local cause = again and string.match(text, '^[^|]*|[^|]*|[^|]*|[^|]*|[^|]*(|.*)$') or ''
  call('DEL', key)
  call('HSET', tombstones, id, position .. '|' .. origin .. '|' .. now .. cause)
  return not again
end
