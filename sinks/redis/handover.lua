-- What a row takes along when its key changes. The old key and the new one lie in different buckets, so that is done in
-- steps, each of which may be repeated: the old key's bucket says what its row knows (`hand`), the new key's takes it
-- (`give`), then the old row is deleted as any other. What cannot be done at once lies in `k:<view>`:
--   row's key → MessagePack { applied at (ms), waiting, moves }
--   waiting   { position, { name, value, … } }, …: given to a row that is not there yet
--   moves     { since, until, new key, position for it, { name → position } }, …: lives that ended by a change of the key
--             and did not know all; what is said to one of them later, and is newer than what it knew, goes on
-- A value is a text, false for null, true for absent.
--
-- A row of `hand`: key, position of its delete, new key, position for it, a letter per column (h: it is handed over),
-- whether rows are still filled in ("": no), cause. A row of `give`: key, position, { name, value, … }, cause. A row of `note_move`: key, since, until, new key,
-- position for it, { name, … } that are not known. What is to be given is the last part of the answer: view, key,
-- position, values, cause.

local handed = {}
local HANDED = 104

local function kept_of(section, id)
  local text = call('HGET', section.handovers, id)
  local kept = text and cmsgpack.unpack(text)
  return { waiting = kept and kept[2] or {}, moves = kept and kept[3] or {} }
end

local function keep(section, id, kept)
  if #kept.waiting + #kept.moves == 0 then
    call('HDEL', section.handovers, id)
  else
    call('HSET', section.handovers, id, cmsgpack.pack({ now, kept.waiting, kept.moves }))
    section.kept = true
  end
end

-- The row's position, if it is there, and below which nothing counts any more.
local function life_of(section, id, key)
  local have = call('HMGET', key, '.p', '.d')
  local deleted = have[1] and (have[2] or '') or tombstone_position(section.tombstones, id)
  return have[1], deleted > section.floor and deleted or section.floor
end

local function move_at(kept, position)
  for _, move in ipairs(kept.moves) do
    if move[1] <= position and position < move[2] then return move end
  end
end

local function pass_on(section, id, kept, move, position, values, cause)
  local news, known = {}, move[5]
  for i = 1, #values, 2 do
    local name = values[i]
    if known[name] and known[name] <= position then
      known[name] = position
      news[#news + 1] = name
      news[#news + 1] = values[i + 1]
    end
  end
  if #news > 0 then
    keep(section, id, kept)
    handed[#handed + 1] = { section.view, move[3], move[4], news, cause }
  end
end

-- What has waited in vain for a row of this life.
local function waited_for(kept, name, since, before)
  local from, value = '', nil
  for _, waiting in ipairs(kept.waiting) do
    if waiting[1] >= since and waiting[1] < before and waiting[1] > from then
      for i = 1, #waiting[2], 2 do
        if waiting[2][i] == name then from, value = waiting[1], waiting[2][i + 1] end
      end
    end
  end
  return from, value
end

-- All is known for certain only where the row itself has it, and nothing of it is still to be filled in from the lake.
local function hand(section, id, key, move, mask, filling, cause)
  local there, deleted = life_of(section, id, key)
  if deleted >= move[2] then return end -- done before
  local row, kept = there and read_row(key, section.columns), kept_of(section, id)
  local values, known, whole = {}, {}, filling == ''
  for i, name in ipairs(section.columns) do
    if byte(mask, i) == HANDED then
      local from, value = row and row.from[name] or '', row and row.value[name]
      if from == '' or from < deleted or from >= move[2] then
        from, value = waited_for(kept, name, deleted, move[2])
        whole = false
      end
      if from ~= '' then
        values[#values + 1] = name
        values[#values + 1] = value == nil and true or value
      end
      known[name] = from
    end
  end
  if not whole then
    local others = {}
    for _, other in ipairs(kept.moves) do
      if other[2] ~= move[2] then
        others[#others + 1] = other
      else -- a repeat: what went on since stays known
        for name, from in pairs(other[5]) do
          known[name] = known[name] and from > known[name] and from or known[name]
        end
      end
    end
    move[1], move[5], others[#others + 1] = deleted, known, move
    kept.moves = others
    keep(section, id, kept)
  end
  if #values > 0 then
    handed[#handed + 1] = { section.view, move[3], move[4], values, cause }
  end
end

-- Have a row take values where nothing was said to it itself. Of two gifts of one position the later one is the newer:
-- `.g` counts those replaced, so that what entities are told of the row still grows.
local function take(section, key, position, values)
  local row, replaced = read_row(key, section.columns), call('HGET', key, '.g')
  local changed, again = false, false
  for i = 1, #values, 2 do
    local name, value = values[i], values[i + 1]
    if value == true then value = nil end
    local fresh = row.from[name] == '' or row.from[name] < section.floor
    if fresh or (row.from[name] == position and row.value[name] ~= value) then
      row.from[name], row.value[name], changed, again = position, value, true, again or not fresh
    end
  end
  if changed then
    write_row(key, row, section.columns, section.quoted)
    if replaced or again then
      call('HSET', key, '.g', string.format('%010d', (replaced or 0) + (again and 1 or 0)))
    end
  end
  return changed
end

local function wait(section, id, kept, position, values)
  local given = {}
  for _, waiting in ipairs(kept.waiting) do
    if waiting[1] == position then given = waiting end
  end
  if not given[1] then
    given = { position, {} }
    kept.waiting[#kept.waiting + 1] = given
  end
  local at_name = {}
  for i = 1, #given[2], 2 do at_name[given[2][i]] = i end
  for i = 1, #values, 2 do
    local place = at_name[values[i]] or #given[2] + 1
    given[2][place], given[2][place + 1] = values[i], values[i + 1]
  end
  keep(section, id, kept)
end

local function give(section, kind, id, position, values, cause)
  if position < section.floor then return end
  local key, kept = section.prefix .. id, kept_of(section, id)
  local move = move_at(kept, position)
  if move then
    return pass_on(section, id, kept, move, position, values, cause)
  end
  local there, deleted = life_of(section, id, key)
  if position < deleted then return end -- that row is gone
  if not there or there <= position then
    return wait(section, id, kept, position, values)
  end
  if kind == 'r' then
    local change = { position = position, before = call('HGET', key, '.e'), cause = cause }
    change.applied = take(section, key, position, values)
    if section.emits then
      change.cause = kept_cause(section, id, key, change)
    end
    tell(section, id, key, change)
    applied = applied + (change.applied and 1 or 0)
  else
    local before = section.emits and outbox.shown(key, section.shown)
    if take(section, key, position, values) then
      applied = applied + 1
      if section.emits then
        outbox.note(section.about, id, cause, before, outbox.shown(key, section.shown))
      end
    end
  end
end

-- A change of a key that is known from the lake; `unknown` are the columns that it did not hand over.
local function note_move(section, id, move, unknown)
  local kept, left, known = kept_of(section, id), {}, {}
  for _, other in ipairs(kept.moves) do
    if other[2] == move[2] then return end
  end
  for _, name in ipairs(unknown) do known[name] = '' end
  move[5], kept.moves[#kept.moves + 1] = known, move
  for _, waiting in ipairs(kept.waiting) do
    if move[1] <= waiting[1] and waiting[1] < move[2] then
      pass_on(section, id, kept, move, waiting[1], waiting[2], '')
    else
      left[#left + 1] = waiting
    end
  end
  kept.waiting = left
  keep(section, id, kept)
end

local function apply_handover(section, step, kind, stop)
  while at < stop do
    if step == 'h' then
      local move = { '', args[at + 1], args[at + 2], args[at + 3] }
      hand(section, args[at], section.prefix .. args[at], move, args[at + 4], args[at + 5], args[at + 6])
      at = at + 7
    elseif step == 'm' then
      local move = { args[at + 1], args[at + 2], args[at + 3], args[at + 4] }
      note_move(section, args[at], move, args[at + 5])
      at = at + 6
    else
      give(section, kind, args[at], args[at + 1], args[at + 2], args[at + 3])
      at = at + 4
    end
  end
end

local function said(section, state, first)
  local values, v = {}, first
  for i, name in ipairs(section.columns) do
    local letter = state == '' and VALUE or byte(state, i)
    if letter ~= UNAVAILABLE then
      values[#values + 1] = name
      values[#values + 1] = letter ~= NULL
      if letter == VALUE then
        values[#values], v = tostring(args[v]), v + 1 -- an int comes as a number: an answer takes it for a true
      end
    end
  end
  return values
end

-- After a change of a row of which `k:` has something: what waited for it is taken, what it says to a life that has moved
-- on goes on. Says whether the row was altered.
local function settle(section, id, key, position, state, first, cause)
  if position < section.floor or call('HEXISTS', section.handovers, id) == 0 then return false end
  local kept, changed = kept_of(section, id), false
  local move = state ~= 'd' and state ~= 's' and move_at(kept, position)
  if move then
    pass_on(section, id, kept, move, position, said(section, state, first), cause)
  end
  local there, deleted = life_of(section, id, key)
  local left = {}
  table.sort(kept.waiting, function(a, b) return a[1] > b[1] end)
  for _, waiting in ipairs(kept.waiting) do
    if waiting[1] >= deleted then
      if there and waiting[1] < there then
        changed = take(section, key, waiting[1], waiting[2]) or changed
      else
        left[#left + 1] = waiting
      end
    end
  end
  if #left < #kept.waiting then
    kept.waiting = left
    keep(section, id, kept)
  end
  return changed
end
