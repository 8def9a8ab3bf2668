# What can be asked of the target: a root file system runs no commands, and an
# ordinary user may not look everywhere.
class ContainerTarget < Inspec.resource(1)
  name 'container_target'
  desc 'Tells what a control may ask of the target'

  # Whether the target runs commands, as a container does and an image doesn't.
  def running?
    inspec.command('true').exit_status.zero?
  rescue StandardError
    false
  end

  # Whether it can be told if path is there.
  def visible?(path)
    [true, false].include?(inspec.file(path).exist?)
  rescue StandardError
    false
  end

  # The text of a file, nil where there is none or it may not be read.
  def text(path)
    inspec.file(path).content
  rescue StandardError
    nil
  end

  # A line of /proc/1/status: what the container's first process may do.
  def first_process(field)
    text('/proc/1/status').to_s[/^#{field}:\s*(\S+)/, 1]
  end

  # Whether the container runs and tells that of its first process.
  def first_process?(field)
    running? && !first_process(field).nil?
  end

  # Those of the paths that are there, or may be, but cannot be read.
  def unreadable(paths)
    paths.select { |p| !visible?(p) || (inspec.file(p).exist? && text(p).nil?) }
  end

  def to_s
    'Container target'
  end
end
