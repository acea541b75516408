-- The cause of what a row is now: that of the last change that altered it. A repeat may be told before it comes again.
local function kept_cause(section, id, key, change)
  if call('EXISTS', key) == 1 then
    if change.applied then
      call('HSET', key, '.c', change.cause)
    end
    return call('HGET', key, '.c') or change.cause
  end
  local text = call('HGET', section.tombstones, id)
  if text and change.applied then
    call('HSET', section.tombstones, id, text .. '|' .. change.cause)
    return change.cause
  end
  return text and string.match(text, '^[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(.*)$') or change.cause
end

-- What entities must know of a row after a change, applied or not: a repeat tells them again, in case it was lost. The
-- change by which a row left an entity tells that one; if it was lost, it comes again itself, as a repeat, and all hear it
-- that the row has ever left. So a change that is new need not tell them: a row that moves often would cost ever more.
local function tell(section, id, key, change)
  local view, before = section.view, change.before
  local flat, hash, fields = call('HGETALL', key), {}, {}
  for i = 1, #flat, 2 do
    hash[flat[i]] = flat[i + 1]
  end
  local entity = hash['.e'] or false
  local left_key, left = base .. 'm:' .. view, '[]'
  if before and before ~= entity then
    leave(left_key, id, before)
    left = cjson.encode({ before })
  elseif not change.applied then
    left = call('HGET', left_key, id) or '[]'
  end
  local stamp = hash['.p']
  if stamp then -- grows with every change of the row, and is the same however it came about
    local zero = string.rep('0', #stamp)
    local parts = { stamp, hash['.d'] or zero }
    local unavailable = names_in(hash['.unavailable'])
    for _, name in ipairs(section.columns) do
      parts[#parts + 1] = unavailable[name] and zero or hash['.p.' .. name] or stamp
    end
    stamp = table.concat(parts) .. (hash['.g'] or '')
    for i = 1, #flat, 2 do
      local name = flat[i]
      if byte(name) ~= 46 or name == '.p' or name == '.t' or name == '.v' or name == '.null' or name == '.unavailable' then
        fields[#fields + 1] = name
        fields[#fields + 1] = flat[i + 1]
      end
    end
  else
    stamp = tombstone_position(section.tombstones, id)
    if stamp < section.floor then stamp = section.floor end
  end
  -- A generation as digits: behind its position, and above what stamps without one have there, an epoch.
  stamp = string.gsub(stamp, '%.', '9999')
  told[#told + 1] = { view, id, stamp, entity, left, hash['.s'] or '', fields, change.cause,
    change.cause ~= '' and change.position or '' }
end

-- An entity shows the row with the highest order (event time), then position, then key.
local function above(a, b)
  if a.order ~= b.order then return a.order > b.order end
  if a.position ~= b.position then return a.position > b.position end
  return a.id > b.id
end

local function row_of(id, held)
  return { id = id, order = held[2], fields = held[3], position = position_in(held[3]) }
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

local function best_of(ledger, ranks)
  while true do
    local last = call('ZREVRANGEBYLEX', ranks, '+', '-', 'LIMIT', 0, 1)[1]
    if not last then return nil end
    local id = id_in(last)
    local text = call('HGET', ledger, id)
    local held = text and cmsgpack.unpack(text)
    if held and held[3] then return row_of(id, held) end
    call('ZREM', ranks, last) -- somebody has taken the ledger away by hand
  end
end

local function move(ranks, old, new)
  if old == new then return end
  if old then call('ZREM', ranks, old) end
  if new then call('ZADD', ranks, 0, new) end
end

local function tell_entity(view, entity, id, told)
  local place = view .. ':' .. entity
  local key, ledger, ranks = base .. 'f:' .. place, base .. 'e:' .. place, base .. 'z:' .. place
  local text = call('HGET', ledger, id)
  local held = text and cmsgpack.unpack(text)
  if held and held[1] >= told[1] then return end
  call('HSET', ledger, id, cmsgpack.pack(told))
  if not told[3] then
    call('ZADD', base .. 'g:' .. view, now, entity .. '\0' .. id)
  elseif held and not held[3] then
    call('ZREM', base .. 'g:' .. view, entity .. '\0' .. id)
  end
  if not held and not told[3] then return end -- also what an entity never saw may come later, and older
  applied = applied + 1
  move(ranks, held and rank_of(id, held), rank_of(id, told))
  local shown = call('HMGET', key, '.k', '.s', '.p')
  local row = told[3] and row_of(id, told)
  local top = shown[1] and { id = shown[1], order = shown[2], position = shown[3] }
  if row and (not top or above(row, top)) then
    show(key, row)
  elseif top and top.id == id then
    show(key, best_of(ledger, ranks))
  end
end

local function apply_told(section)
  local entity, id, stamp, order, count = args[at], args[at + 1], args[at + 2], args[at + 3], tonumber(args[at + 4])
  local first, key = at + 5, base .. 'f:' .. section.view .. ':' .. entity
  local fields = count > 0 and { unpack(args, first, first + count - 1) }
  if fields and position_in(fields) < section.floor then -- by a worker that was frozen: the sweep has passed
    fields, stamp = false, section.floor
  end
  local before = section.emits and outbox.shown(key, section.shown)
  tell_entity(section.view, entity, id, { stamp, fields and order or '', fields })
  at = first + count
  if section.emits then
    outbox.note(section.about, entity, args[at], before, outbox.shown(key, section.shown))
    at = at + 1
  end
end
