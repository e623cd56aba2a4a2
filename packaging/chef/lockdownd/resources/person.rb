provides :lockdownd_person
unified_mode true

description 'A person who may be given permission to log in. Taken out of the recipe, they and their grants are gone at the next converge.'

property :person, String, name_property: true,
         description: 'Their name, unique on the instance.'
property :keys, [String, Array], default: [], coerce: proc { |value| Array(value) },
         description: 'The content of their .pub files. A key belongs to one person only.'
property :accounts, [String, Array], default: [], coerce: proc { |value| Array(value) },
         description: 'The accounts that they may be given.'
property :operator, [true, false], default: false,
         description: 'Whether they may use lockdownctl, in a live granted session of their own.'
property :origin, String,
         description: 'Where this comes from, for the comment above it in the file. Default: the cookbook and recipe.'

default_action :create

action :create do
  entry = {
    'name' => new_resource.person,
    'keys' => new_resource.keys,
    'accounts' => new_resource.accounts,
    'operator' => new_resource.operator,
    'origin' => new_resource.origin || declared_in(new_resource),
  }
  # Refused here, where the name of the resource is known.
  entry.each { |key, value| LockdowndCookbook::Toml.toml(value, "#{new_resource} #{key}") }
  files = files_of_this_run
  files.people(files.people + [entry])
end

# Whoever else asks for them: an attribute, a data bag item, another recipe.
action :remove do
  files = files_of_this_run
  files.removed_people(files.removed_people | [new_resource.person])
end

action_class do
  include LockdowndCookbook::Accumulated
end
