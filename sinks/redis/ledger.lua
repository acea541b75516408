local function upsert(section, key, id, position, state, shape, first)
  local columns, quoted = section.columns, section.quoted
  if position < section.floor then return false end
  if section.unswept then sink(key, columns, quoted, section.floor) end
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

local function read_section(kind, view, about, count)
  local columns, quoted = {}, {}
  for i = 1, count do
    columns[i], quoted[i] = args[at], args[at + 1]
    at = at + 2
  end
  local tombstones = base .. 'x:' .. view
  local floor = call('HGET', floors, view) or ''
  return {
    view = view, about = about, emits = about ~= '', shown = about ~= '' and shown_of(columns),
    floor = floor, unswept = floor ~= '' and call('HEXISTS', floors, view .. '|SWEEPING') == 1,
    columns = columns, quoted = quoted, prefix = base .. kind .. ':' .. view .. ':', shapes = {}, tombstones = tombstones,
    buried = call('EXISTS', tombstones) == 1,
    handovers = base .. 'k:' .. view, kept = call('EXISTS', base .. 'k:' .. view) == 1,
    slots = {}, -- one table for all rows: `.p`, position, name, value, …
  }
end

-- Rows of a view that emits, or whose entities rows share: what was there before each of them counts.
local function apply_one_by_one(section, kind, stop)
  local columns, quoted, tombstones = section.columns, section.quoted, section.tombstones

  local function apply_row(id, key)
    local position, state, first = args[at + 1], args[at + 2], at + 3
    if state == 'd' then
      at = first + 1
      local changed = position >= section.floor and delete(key, id, tombstones, columns, quoted, position, args[first])
      section.buried = section.buried or changed
      return changed
    elseif state == 's' then
      at = first
      return sink(key, columns, quoted, position)
    end
    local shape = section.shapes[state] or shape_of(state, columns, quoted)
    section.shapes[state] = shape
    at = first + #shape.fields
    return upsert(section, key, id, position, state, shape, first)
  end

  local function cause_of()
    if not section.emits then return '' end
    at = at + 1
    return args[at - 1]
  end

  -- Where `k:` has something of the row: `row` is where it stands in `args`.
  local function settle_row(id, key, row, cause)
    return section.kept and settle(section, id, key, args[row + 1], args[row + 2], row + 3, cause)
  end

  while at < stop do
    local id, position, row = args[at], args[at + 1], at
    local key = section.prefix .. id
    if kind == 'r' then
      local change = { position = position, before = call('HGET', key, '.e') }
      local sinks = args[at + 2] == 's'
      change.applied, change.cause = apply_row(id, key), cause_of()
      change.applied = settle_row(id, key, row, change.cause) or change.applied
      -- What is below the floor is no news, and the sweep tells entities first of rows that are gone.
      if position >= section.floor and (not sinks or call('EXISTS', key) == 1) then
        if section.emits then
          change.cause = kept_cause(section, id, key, change)
        end
        tell(section, id, key, change)
      end
      applied = applied + (change.applied and 1 or 0)
    else
      local before, is_delete = outbox.shown(key, section.shown), args[at + 2] == 'd'
      local changed = apply_row(id, key)
      local cause = cause_of()
      changed = settle_row(id, key, row, cause) or changed
      if changed then
        applied = applied + 1
        if is_delete and not before then
          outbox.note_gone(section.about, id, cause)
        else
          outbox.note(section.about, id, cause, before, outbox.shown(key, section.shown))
        end
      end
    end
  end
end

local function apply_section()
  local kind, view, about, count = args[at], args[at + 1], args[at + 2], args[at + 3]
  local step = #kind > 1 and sub(kind, 1, 1)
  kind = step and sub(kind, 2) or kind
  at = at + 4
  if kind == 'l' then
    applied = applied + raise_floor(view, args[at + 1], args[at + 2])
    at = at + 3
    return
  end
  local section = read_section(kind, view, about, count)
  local stop = at + 1 + args[at]
  at = at + 1
  if step then
    return apply_handover(section, step, kind, stop)
  end
  if kind == 'e' then
    while at < stop do
      apply_told(section)
    end
    return
  end
  if kind == 'r' or section.emits then
    return apply_one_by_one(section, kind, stop)
  end
  local columns, quoted, shapes = section.columns, section.quoted, section.shapes
  local tombstones, prefix = section.tombstones, section.prefix
  while at < stop do -- as `apply_row`, without its calls: most rows of most views pass here
    local id, position, state, first, changed = args[at], args[at + 1], args[at + 2], at + 3, nil
    if state == 'd' then
      at = first + 1
      changed = position >= section.floor and delete(prefix .. id, id, tombstones, columns, quoted, position, args[first])
      section.buried = section.buried or changed
    elseif state == 's' then
      at = first
      changed = sink(prefix .. id, columns, quoted, position)
    else
      local shape = shapes[state] or shape_of(state, columns, quoted)
      shapes[state] = shape
      at = first + #shape.fields
      changed = upsert(section, prefix .. id, id, position, state, shape, first)
    end
    if section.kept then
      changed = settle(section, id, prefix .. id, position, state, first, '') or changed
    end
    applied = applied + (changed and 1 or 0)
  end
end

if outbox then
  local full = outbox.full(#ARGV[1])
  if full then
    return redis.error_reply('OUTBOXFULL ' .. full)
  end
  for i = #args - 3 * args[7] + 1, #args, 3 do
    local held = call('HGET', KEYS[1], args[i])
    if not held then -- Redis has lost something, perhaps numbers that readers have seen
      outbox.count_anew()
    elseif tonumber(string.match(held, '%d+$')) < tonumber(string.match(args[i + 1], '%d+$')) then
      -- A call before this one was refused, whose changes must be steps of their own; or Redis has lost something, which
      -- shows when the fields are read again.
      return redis.error_reply('OUTBOXBEHIND ' .. args[i])
    end
  end
end

local function apply_all()
  for _ = 1, args[3] do
    apply_section()
  end
end

local appended = 0
if outbox then -- also what comes before a row that fails is told: it is written, and comes no more
  local whole, failure = pcall(apply_all)
  appended = outbox.close()
  if not whole then
    return type(failure) == 'table' and failure or redis.error_reply(failure)
  end
else
  apply_all()
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
return { applied, refused, told, appended, handed }
