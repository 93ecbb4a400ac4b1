"""Where frames come from: video files, folders of images, cameras, streams, depth cameras."""
